"""What every task of a policy shares: where the policy is, how errors become Airflow's, and how an application names its task."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from becalm.actions.handover import Application, Begun, Ports
from becalm.airflow.connections import ports_for
from becalm.airflow.failures import airflow_failures, say
from becalm.airflow.handed import SECONDS, Handed
from becalm.clock import SystemClock
from becalm.errors import PermanentError, PolicyError
from becalm.model import Payload, from_payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from becalm.policy.spec import ProtectionPolicy

T = TypeVar("T")


class BecalmOperator(BaseOperator):
    """The common part: where the policy is, and how errors become Airflow's."""

    template_fields: Sequence[str] = ()
    ui_color = "#dfeef5"
    point = ""
    """The recovery point that the task wrote or read back: its button leads there."""
    tells_time = False
    """Whether it hands over how long it took: one small request, which no task may make while somebody is frozen."""

    def __init__(self, *, policy_name: str, policy_digest: str, policy_file: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.policy_name = policy_name
        self.policy_digest = policy_digest
        self.policy_file = policy_file

    def execute(self, context: Context) -> Any:
        """Do this task's part, and say how long it took."""
        handed, clock = Handed(context), SystemClock()
        began = clock.monotonic()
        with airflow_failures():
            done = self.act(context, handed)
            took = clock.monotonic() - began
            say(f"{self.task_id}: done in {took:.1f} s")
            if self.tells_time:
                handed.push(SECONDS, round(took, 3))
        return done

    @abstractmethod
    def act(self, context: Context, handed: Handed) -> Any:
        """Do this task's part, with Becalm's own errors."""

    def load_policy(self, begun: Begun | None = None) -> ProtectionPolicy:
        """Read the policy's file. Raises PolicyError: it is gone, broken, or not the one that the run began with."""
        from becalm.policy.load import load_file  # noqa: PLC0415  (only a task reads a policy here)

        path = Path(self.policy_file)
        if not path.is_file():
            raise PolicyError(
                f"the policy {self.policy_name} was removed while it runs", where=str(path), hint="put the file back and run it again"
            )
        policy = load_file(path)
        expected = begun.policy_digest if begun else self.policy_digest
        if policy.digest != expected:
            raise PolicyError(f"the policy {self.policy_name} was changed while it runs", where=str(path), hint="run it again as it is now")
        return policy

    def open_ports(self, policy: ProtectionPolicy) -> Ports:
        """Open the outer world, as the policy's connections describe it."""
        return ports_for(policy, progress=say)


class ApplicationOperator(BecalmOperator):
    """A task of one application. Its name is set first of all: a name that is missing afterwards would fail work that is done."""

    template_fields: Sequence[str] = ("application",)

    def __init__(self, *, application: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.application = application

    def act(self, context: Context, handed: Handed) -> Payload:
        """Name the task, and do its part."""
        application = from_payload(Application, self.application)
        context["app_name"] = application.name  # type: ignore[typeddict-unknown-key]  # what map_index_template reads
        return self.protect(application, handed, demand(handed.begun()))

    @abstractmethod
    def protect(self, application: Application, handed: Handed, begun: Begun) -> Payload:
        """Do this task's part for the application."""


def demand(found: T | None, what: str = "the run did not begin") -> T:
    """Return what an earlier task handed over. Raises PermanentError where it did not."""
    if found is None:
        raise PermanentError(what, hint="see the tasks before this one; clear the whole run to try again")
    return found


def go_on(handed: Handed) -> Begun:
    """Return the run, for a task that runs whatever became of those before it. Raises AirflowSkipException where the run was skipped."""
    begun = demand(handed.begun())
    if begun.skipped:
        raise AirflowSkipException(begun.skipped)
    return begun
