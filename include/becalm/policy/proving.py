"""What a policy can say of its drills: when a recovery point is restored to prove it, and what must succeed in what was restored.

Part of `spec`, which passes its names on.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from becalm.policy.fields import Command, ContainerName, Duration, ResourcePattern, Schedule, refuse
from becalm.policy.hooks import HookSelect  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.policy.section import Section
from becalm.policy.units import format_duration

LONGEST_DRILL = timedelta(days=7)


class Keep(StrEnum):
    """Whether what a drill restored stays for a person to look at."""

    NEVER = "never"
    ON_FAILURE = "on-failure"


class DrillCheck(Section):
    """A command that must succeed in what a drill restored."""

    select: HookSelect = Field(description="In which pods it runs: in every running one. The namespaces are called as in the policy.")
    command: Command = Field(description="The program and its arguments; it succeeds with exit code 0. No shell is added.")
    container: ContainerName | None = Field(default=None, description="The container to run in; the first, if left out.")
    timeout: Duration = Field(default=timedelta(minutes=1), description="How long it may take in one pod.")


class Drill(Section):
    """Restores on a schedule, to prove that they work."""

    schedule: Schedule | None = Field(
        default=None, description="When: a cron expression in the policy's time zone. By hand only, if left out."
    )
    checks: tuple[DrillCheck, ...] = Field(default=(), description="Commands that must succeed in what was restored.")
    timeout: Duration = Field(default=timedelta(hours=1), description="How long a drill may take; one that takes longer has failed.")
    ready: Duration = Field(
        default=timedelta(minutes=10), description="How long after the restore every workload may take to be ready; at most `timeout`."
    )
    keep: Keep = Field(
        default=Keep.NEVER,
        description="Whether what was restored stays for a day: `never` or `on-failure`. The reaper removes it after that day.",
    )
    custom_resources: tuple[ResourcePattern, ...] = Field(
        default=(),
        description="Patterns for kinds of custom resources that are restored too. None if left out: an operator of the live cluster would act on them.",
    )

    @model_validator(mode="after")
    def _ends_in_time(self) -> Self:
        if self.timeout > LONGEST_DRILL:
            raise refuse(
                f"a drill would take up to {format_duration(self.timeout)}", f"write at most {format_duration(LONGEST_DRILL)} as timeout"
            )
        if "ready" in self.model_fields_set and self.ready > self.timeout:
            raise refuse("ready is longer than timeout", f"write at most {format_duration(self.timeout)} as ready")
        return self
