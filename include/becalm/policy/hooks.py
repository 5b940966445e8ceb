"""What a policy can say of stillness: in which pods, by which commands, for how long at most.

Part of `spec`, which passes its names on.
"""

from __future__ import annotations

from datetime import timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from becalm.policy.blueprints import PARAMETERS, AnyParameters, BlueprintName
from becalm.policy.fields import Command, ContainerName, Duration, LabelText, NamespacePattern, PodName, UserName, refuse
from becalm.policy.problems import quoted
from becalm.policy.section import Section
from becalm.policy.units import format_duration

LONGEST_FREEZE = timedelta(minutes=10)
"""The longest quiesce timeout that a policy may ask for."""


class QuiesceScope(StrEnum):
    """What is frozen together."""

    APPLICATION = "application"
    POLICY = "policy"


class OnFailure(StrEnum):
    """What follows when a hook fails."""

    CRASH_CONSISTENT = "crash-consistent"
    FAIL = "fail"


class HookSelect(Section):
    """In which pods a hook runs."""

    namespaces: Annotated[tuple[NamespacePattern, ...], Field(min_length=1)] | None = Field(
        default=None, description="Names or patterns, among the selected namespaces; all of them if left out."
    )
    labels: LabelText | None = Field(default=None, description="A label selector for pods. Either this or `pod`.")
    pod: PodName | None = Field(default=None, validate_default=True, description="The name of one pod. Either this or `labels`.")

    @field_validator("pod")
    @classmethod
    def _names_pods(cls, pod: str | None, info: ValidationInfo) -> str | None:
        if "labels" in info.data and (info.data["labels"] is None) == (pod is None):
            raise refuse("it must be said in which pods this runs, and in one way", "write either labels or pod")
        return pod


class HookCommand(Section):
    """A hook by commands of the author's. No shell is added."""

    freeze: Command = Field(description="The program and its arguments that still the application; it ends once all is still.")
    thaw: Command = Field(description="The program and its arguments that let it go on. It may run more than once, also without a freeze.")
    container: ContainerName | None = Field(
        default=None, description="The container to run in. If left out: the one that mounts a protected volume, or else the first."
    )
    user: UserName | None = Field(default=None, description="The user to run as, if it is not the container's own.")


def read_parameters(use: BlueprintName, given: object) -> AnyParameters:
    """Read what a blueprint is told. Raises ValidationError, and our own error for a key that the blueprint does not know."""
    model = PARAMETERS[use]
    keys = [field.alias or name for name, field in model.model_fields.items()]
    unknown = [str(key) for key in given if key not in keys] if isinstance(given, dict) else []
    if unknown:
        near = get_close_matches(unknown[0], keys, n=1)
        raise refuse(
            f"the blueprint {use} has no parameter {quoted(unknown[0])}",
            f"write {near[0]}" if near else "remove it, or write one of: " + ", ".join(keys),
        )
    return given if isinstance(given, model) else model.model_validate(given)


class Hook(Section):
    """How one kind of application is stilled."""

    select: HookSelect = Field(description="In which pods it runs.")
    use: BlueprintName | None = Field(default=None, description="The name of a blueprint. Either this or `command`.")
    parameters: AnyParameters | None = Field(
        default=None, alias="with", validate_default=True, description="What the blueprint is told. Each key has a default."
    )
    command: HookCommand | None = Field(default=None, validate_default=True, description="Commands of your own. Either this or `use`.")
    timeout: Duration | None = Field(default=None, description="How long this hook may take, at most `quiesce.timeout`; that, if left out.")

    @field_validator("parameters", mode="before")
    @classmethod
    def _fits_the_blueprint(cls, given: object, info: ValidationInfo) -> object:
        """Read the parameters by the blueprint's own model; its defaults where none are given."""
        use: BlueprintName | None = info.data.get("use")
        if use is None:
            if given is not None and "use" in info.data:
                raise refuse("these are parameters, and no blueprint is named", "write use: and the name of a blueprint, or remove them")
            return None
        return read_parameters(use, given if given is not None else {})

    @field_validator("command")
    @classmethod
    def _does_one_thing(cls, command: HookCommand | None, info: ValidationInfo) -> HookCommand | None:
        if "use" in info.data and (info.data["use"] is None) == (command is None):
            raise refuse(
                "it must be said what the hook does, and in one way", "write use: and a blueprint, or command: {freeze: […], thaw: […]}"
            )
        return command


class Quiesce(Section):
    """How applications are stilled for the moment of the cut."""

    scope: QuiesceScope = Field(
        default=QuiesceScope.APPLICATION,
        description="What is frozen together: `application` (each namespace in its own window) or `policy` (all in one).",
    )
    timeout: Duration = Field(default=timedelta(seconds=30), description="Nobody is frozen longer, whatever happens. At most 10 minutes.")
    on_failure: OnFailure = Field(
        default=OnFailure.CRASH_CONSISTENT,
        description="When a hook fails: `crash-consistent` (go on, and say so in the recovery point) or `fail` (capture nothing of this application).",
    )
    annotations: tuple[NamespacePattern, ...] = Field(
        default=(),
        description="Namespaces, or patterns, whose pods may bring hooks of their own in annotations. None if left out: who can label a pod commands nothing.",
    )
    hooks: tuple[Hook, ...] = Field(default=(), description="Hooks, run side by side.")

    @field_validator("timeout")
    @classmethod
    def _ends_soon(cls, timeout: timedelta) -> timedelta:
        if timeout > LONGEST_FREEZE:
            raise refuse(
                f"an application would be frozen for up to {format_duration(timeout)}", f"write at most {format_duration(LONGEST_FREEZE)}"
            )
        return timeout

    @field_validator("hooks")
    @classmethod
    def _hooks_fit(cls, hooks: tuple[Hook, ...], info: ValidationInfo) -> tuple[Hook, ...]:
        limit: timedelta | None = info.data.get("timeout")
        if limit is not None and (
            late := [str(number) for number, hook in enumerate(hooks) if hook.timeout is not None and hook.timeout > limit]
        ):
            raise refuse(
                f"hook {', '.join(late)} may take longer than quiesce.timeout", f"write at most {format_duration(limit)} as its timeout"
            )
        return hooks
