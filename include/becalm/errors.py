"""Errors, by what to do next. Each carries `code` (stable), `message`, `hint`, and where it happened.

    BecalmError
    ├── PolicyError          the author changes the policy; all findings at once, each with its dotted path
    ├── UsageError           the person who typed the command changes it
    ├── TransientError       try again, perhaps after `delay_seconds`
    │   ├── ClusterUnavailable, StoreUnavailable, Throttled, LeaseHeld, Conflict, HookFailed, CutFailed, MoverFailed
    │   └── RepositoryLocked
    ├── PermanentError       do not try again before something was changed
    │   ├── AccessDenied, NotFound, AlreadyExists, PreconditionFailed, RevisionGone, InvalidObject
    │   ├── NothingSelected, NoSnapshotClass, HookMissing, PartialCapture
    │   ├── BucketMissing, StoreReadOnly, StoreFull, StoreUnfit, OtherRepository, WrongPassword, NoRepository
    │   ├── LeaseLost, PointMissing, RestoreRefused, ClusterChanged, DrillFailed
    │   └── PruneRefused, LockNotEnforced
    └── IntegrityError       call someone; never retried, never swallowed
        └── Damaged

`EXIT_CODES` gives each class the exit code of the command line; docs/errors.md lists them all and a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class BecalmError(Exception):
    """The root of every error that Becalm raises on purpose.

    `where` names the place (a file and path, an object, a key); `hint` says what a person can do about it.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        """Say what is wrong, where, and what to do."""
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """One line: where, what, and the remedy."""
        place = f"{self.where}: " if self.where else ""
        remedy = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        """Survive a process boundary: keyword arguments are part of the state, not of the arguments."""
        return (_rebuild, (type(self), self.__dict__.copy(), self.args))


def _rebuild(cls: type[BecalmError], state: dict[str, object], args: tuple[object, ...]) -> BecalmError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFinding:
    """One thing wrong with a policy: its dotted path, what is wrong, and what to write instead."""

    path: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        """`spec.target.url: problem; remedy`."""
        return f"{self.path}: {self.problem}" + (f"; {self.remedy}" if self.remedy else "")


class PolicyError(BecalmError):
    """A policy that cannot be followed. `findings` holds all that is wrong with it at once."""

    code = "policy"

    def __init__(self, message: str, *, findings: tuple[PolicyFinding, ...] = (), where: str = "", hint: str = "") -> None:
        """Collect the findings under one message."""
        super().__init__(message, where=where, hint=hint)
        self.findings = findings

    def __str__(self) -> str:
        """The message, then one line per finding."""
        return "\n".join([super().__str__(), *(f"  {finding}" for finding in self.findings)])


class UsageError(BecalmError):
    """A command, a flag or a form that cannot be carried out as it was given."""

    code = "usage"


class TransientError(BecalmError):
    """Something that may go better at the next try."""

    code = "transient"

    def __init__(self, message: str, *, where: str = "", hint: str = "", delay_seconds: float | None = None) -> None:
        """Say also how long to wait, where the other side told us."""
        super().__init__(message, where=where, hint=hint)
        self.delay_seconds = delay_seconds


class ClusterUnavailable(TransientError):
    """The API server did not answer, or answered that it cannot now."""

    code = "cluster-unavailable"


class StoreUnavailable(TransientError):
    """The bucket did not answer, or answered that it cannot now."""

    code = "store-unavailable"


class Throttled(TransientError):
    """The other side asked for patience."""

    code = "throttled"


class LeaseHeld(TransientError):
    """Another run of this policy is at work."""

    code = "lease-held"


class Conflict(TransientError):
    """An object changed between reading and writing it."""

    code = "conflict"


class HookFailed(TransientError):
    """A freeze or thaw hook failed, hung, or its outcome is unknown."""

    code = "hook-failed"


class CutFailed(TransientError):
    """The storage did not cut a snapshot, or did not make it readable in time."""

    code = "cut-failed"


class MoverFailed(TransientError):
    """A mover ended without a result."""

    code = "mover-failed"


class RepositoryLocked(TransientError):
    """Another program (restic, perhaps) holds a lock on the repository that excludes what was asked."""

    code = "repository-locked"


class PermanentError(BecalmError):
    """Something that stays wrong until a person changes it."""

    code = "permanent"


class AccessDenied(PermanentError):
    """The other side knows who we are and says no, or does not accept who we say we are."""

    code = "access-denied"


class NotFound(PermanentError):
    """The named thing is not there."""

    code = "not-found"


class AlreadyExists(PermanentError):
    """The named thing is there already."""

    code = "already-exists"


class PreconditionFailed(PermanentError):
    """A conditional write or delete met another state than the one it was made for."""

    code = "precondition-failed"


class RevisionGone(PermanentError):
    """The cluster no longer knows the revision (410 Gone)."""

    code = "revision-gone"


class InvalidObject(PermanentError):
    """The API server does not accept the object."""

    code = "invalid-object"


class NothingSelected(PermanentError):
    """The policy selects nothing that exists: an error, never an empty recovery point."""

    code = "nothing-selected"


class NoSnapshotClass(PermanentError):
    """No snapshot class serves the driver of a volume."""

    code = "no-snapshot-class"


class HookMissing(PermanentError):
    """A hook names a pod or a container that is not there."""

    code = "hook-missing"


class PartialCapture(PermanentError):
    """Something that was selected was not captured; the recovery point says what."""

    code = "partial-capture"


class BucketMissing(PermanentError):
    """The bucket or the folder of the target is not there."""

    code = "bucket-missing"


class StoreReadOnly(PermanentError):
    """The store does not accept writes from us."""

    code = "store-read-only"


class StoreFull(PermanentError):
    """The store, or its quota, is full."""

    code = "store-full"


class StoreUnfit(PermanentError):
    """The store does not do what everything rests on: it ignores conditions, or locks what nobody asked it to lock."""

    code = "store-unfit"


class NoRepository(PermanentError):
    """The target holds no repository yet."""

    code = "no-repository"


class OtherRepository(PermanentError):
    """The target holds another repository, or something else altogether."""

    code = "other-repository"


class WrongPassword(PermanentError):
    """No key of the repository opens with this password."""

    code = "wrong-password"


class LeaseLost(PermanentError):
    """This run slept through its lease; another one works now, and nothing of this one may become visible."""

    code = "lease-lost"


class PointMissing(PermanentError):
    """No recovery point answers the description."""

    code = "point-missing"


class RestoreRefused(PermanentError):
    """The plan of a restore cannot be carried out without doing more than was asked."""

    code = "restore-refused"


class ClusterChanged(PermanentError):
    """The cluster is not as it was when the plan of a restore was made. What changed was not touched."""

    code = "cluster-changed"


class DrillFailed(PermanentError):
    """A recovery point was restored to prove it, and did not prove itself."""

    code = "drill-failed"


class PruneRefused(PermanentError):
    """Reclaiming space would take more than may go without a word, or what it rests on cannot be trusted. Nothing was deleted."""

    code = "prune-refused"


class LockNotEnforced(PermanentError):
    """The bucket let an object go that was locked: its object lock protects nothing."""

    code = "lock-not-enforced"


class IntegrityError(BecalmError):
    """Stored data is not what was written. Never retried, never swallowed."""

    code = "integrity"


class Damaged(IntegrityError):
    """An object of the repository fails its authentication, its hash, or its form."""

    code = "damaged"


EXIT_CODES: dict[type[BecalmError], int] = {
    BecalmError: 1,
    UsageError: 2,
    PolicyError: 3,
    PermanentError: 4,
    PartialCapture: 5,
    TransientError: 6,
    IntegrityError: 7,
}


def exit_code(error: BecalmError) -> int:
    """Return the exit code of the nearest class in the tree that has one."""
    return next(EXIT_CODES[cls] for cls in type(error).__mro__ if cls in EXIT_CODES)
