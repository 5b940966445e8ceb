"""Freezing and thawing by the author's own commands, each under the dead-man switch.

A container without a shell cannot hold a switch. It is frozen all the same, for the author asked for it, and the answer says that
nothing guards it: such a freeze never makes a recovery point application-consistent. Where only a guarded freeze will do, nothing
is frozen there.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.errors import AccessDenied, HookMissing, NotFound
from becalm.kube import exec as command_exec
from becalm.kube.exec import End, Outcome
from becalm.quiesce import deadman
from becalm.quiesce.base import Freeze, Froze, Released
from becalm.quiesce.deadman import Armed, Met, Switch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.clock import Clock
    from becalm.kube.base import Cluster
    from becalm.quiesce.base import Target

ANSWER_SECONDS = 10.0
"""How much longer than its own time a command may take to answer: the switch ends a freeze that hangs, and that takes a moment."""
THAW_SECONDS = 30.0
NOT_STARTED = (126, 127)
"""What the cluster answers where a program could not be started: then nothing of it has run."""

_MET = {
    Met.FIRED: "the dead-man switch had fired",
    Met.TOUCHED: "another run thawed this container meanwhile",
    Met.AGAIN: "it had been thawed before",
    Met.GONE: "the dead-man switch is not there any more",
    Met.LOST: "the dead-man switch had died: the container was restarted meanwhile, or its processes were killed",
    Met.UNKNOWN: "the thaw did not tell what it met",
}
NO_FOLDER = (
    "no folder for a dead-man switch can be made in the container: give the pod an emptyDir with medium Memory at /tmp, "
    "or let the hook run as a user who may write there"
)
NO_SHELL = "the container has no shell to hold a dead-man switch"
HAD_NOT_HELD = "the thaw says that the application had not held still"


@dataclass(frozen=True, slots=True)
class CommandQuiescer:
    """The driver for `command:` hooks and for hooks in annotations."""

    cluster: Cluster
    clock: Clock
    demand_guard: bool = False
    """Freeze nothing that no switch guards."""

    def switch(self, target: Target, *, run: str, hook: str) -> str:
        """Name a switch: the attempt's part of it is the time."""
        attempt = format(int(self.clock.now().timestamp() * 1e6), "x")
        return str(Switch(container=target.container, run=run, hook=_digest(f"{hook} {target}"), attempt=attempt))

    def freeze(self, target: Target, *, switch: str) -> Froze:
        """Arm and freeze in one command. Raises: HookMissing, AccessDenied."""
        command = deadman.arm(
            Switch.parse(switch),
            timeout_seconds=target.timeout_seconds,
            freeze=deadman.as_user(target.user, target.freeze),
            thaw=deadman.as_user(target.user, target.thaw),
            folders=target.folders,
        )
        outcome = self._run(target, command, target.timeout_seconds + ANSWER_SECONDS)
        answer = deadman.read_arm(outcome.stdout)
        if answer.state is Armed.NONE:
            return self._bare(target, NO_FOLDER)
        if answer.state is Armed.UNKNOWN and outcome.exit_code in NOT_STARTED:
            return self._bare(target, NO_SHELL)
        return _froze(answer, outcome)

    def thaw(self, target: Target, *, switch: str) -> Released:
        """Disarm and thaw in one command, or thaw alone where there was no switch."""
        thaw = deadman.as_user(target.user, target.thaw)
        guarded = bool(switch)
        command = deadman.disarm(Switch.parse(switch), thaw=thaw) if guarded else thaw
        try:
            outcome = self._run(target, command, THAW_SECONDS + ANSWER_SECONDS)
            if guarded and outcome.exit_code in NOT_STARTED and not outcome.stdout:
                guarded, outcome = False, self._run(target, thaw, THAW_SECONDS + ANSWER_SECONDS)
        except HookMissing as error:
            gone = f"the container is gone: {error.message}"
            return Released(confirmed=True, held=False, missing=True, gone=True, message=gone, answered=self.clock.now())
        except AccessDenied as error:
            return Released(confirmed=False, held=False, message=str(error), answered=self.clock.now())
        return _released(outcome) if guarded else _released_bare(outcome)

    def _bare(self, target: Target, why: str) -> Froze:
        """Freeze without a switch, and say so; or do not, where a switch is demanded."""
        if self.demand_guard:
            now = self.clock.now()
            message = f"{why}; so it was not frozen"
            return Froze(outcome=Freeze.FAILED, guarded=False, message=message, asked=now, answered=now, thaw_owed=False)
        outcome = self._run(target, deadman.as_user(target.user, target.freeze), target.timeout_seconds)
        known = {End.DONE: Freeze.FROZEN, End.FAILED: Freeze.FAILED, End.UNKNOWN: Freeze.UNKNOWN}[outcome.end]
        message = "; ".join(part for part in (why, outcome.reason) if part)
        owed = outcome.exit_code not in NOT_STARTED
        return Froze(outcome=known, guarded=False, message=message, asked=outcome.asked, answered=outcome.answered, thaw_owed=owed)

    def _run(self, target: Target, command: Sequence[str], timeout_seconds: float) -> Outcome:
        try:
            return command_exec.run(
                self.cluster,
                self.clock,
                namespace=target.namespace,
                pod=target.pod,
                container=target.container,
                command=command,
                timeout_seconds=timeout_seconds,
            )
        except NotFound as error:
            raise HookMissing(error.message, where=str(target), hint="look at the pod, or mend the hook's container") from error


def _froze(answer: deadman.ArmAnswer, outcome: Outcome) -> Froze:
    """Say what a guarded freeze came to."""
    match answer.state:
        case Armed.FROZEN:
            known, message = Freeze.FROZEN, ""
        case Armed.FAILED:
            said = command_exec.saying(outcome.stderr)
            known, message = Freeze.FAILED, f"the freeze failed with exit code {answer.freeze_code}" + (f": {said}" if said else "")
        case Armed.LATE:
            known, message = Freeze.FAILED, "the freeze did not end within its time, and was thawed again"
        case _:
            known, message = Freeze.UNKNOWN, f"the outcome of the freeze is unknown: {outcome.reason or 'it did not tell'}"
    owed = answer.state is not Armed.FAILED or not answer.untouched
    return Froze(outcome=known, message=message, asked=outcome.asked, answered=outcome.answered, thaw_owed=owed)


def _released(outcome: Outcome) -> Released:
    """Say what a thaw came to that also disarmed a switch."""
    answer = deadman.read_disarm(outcome.stdout)
    told = [_MET.get(answer.met, ""), HAD_NOT_HELD if answer.broken else ""]
    if not answer.confirmed:
        told.insert(0, f"the thaw is not confirmed: {_why(answer.thaw_code, outcome)}")
    return Released(
        confirmed=answer.confirmed,
        held=answer.met is Met.DISARMED and not answer.broken,
        fired=answer.met is Met.FIRED,
        gone=answer.met is Met.GONE,
        message="; ".join(part for part in told if part),
        answered=outcome.answered,
    )


def _released_bare(outcome: Outcome) -> Released:
    """Say what a thaw came to that no switch was part of."""
    broken = outcome.exit_code == deadman.HAD_NOT_HELD
    message = HAD_NOT_HELD if broken else outcome.reason
    return Released(confirmed=outcome.done or broken, held=False, message=message, answered=outcome.answered)


def _why(code: int | None, outcome: Outcome) -> str:
    said = outcome.stderr.strip().decode(errors="replace")[-command_exec.LONGEST_SAYING :]
    return (f"exit code {code}" + (f": {said}" if said else "")) if code is not None else outcome.reason or "it did not answer"


def _digest(hook: str) -> str:
    return sha256(hook.encode()).hexdigest()[:8]
