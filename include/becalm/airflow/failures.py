"""Becalm's errors as Airflow's, and a mover's as Becalm's: the one place where they meet."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from becalm.errors import AccessDenied, BecalmError, ClusterUnavailable, MoverFailed, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.model import MoverResult

log = logging.getLogger(__name__)


@contextmanager
def airflow_failures() -> Iterator[None]:
    """Let a transient error through, for the retry policy to judge; let every other one fail the task at once, in one sentence."""
    try:
        yield
    except TransientError:
        raise
    except BecalmError as error:
        raise AirflowFailException(f"[{error.code}] {error}") from None


@contextmanager
def pod_failures(place: str) -> Iterator[None]:
    """Turn what the Kubernetes provider raises into Becalm's errors. A deferral is no error and passes."""
    try:
        yield
    except BecalmError:
        raise
    except AirflowException as error:
        raise MoverFailed(f"the mover's pod failed: {_first_line(error)}", where=place) from error
    except Exception as error:
        status = getattr(error, "status", None)  # of the Kubernetes client, which only its adapter may import
        if status in (401, 403):
            hint = "let Becalm's account create, read and delete pods there"
            raise AccessDenied("the cluster refuses the mover's pod", where=place, hint=hint) from error
        if status is None and not isinstance(error, OSError):
            raise
        raise ClusterUnavailable(f"the cluster did not carry out what the mover's pod needs: {_first_line(error)}", where=place) from error


def demand_moved(result: MoverResult, *, pod: BecalmError | None = None) -> MoverResult:
    """Return a result that holds a tree. Raises the mover's own error where it left one, else the pod's, else MoverFailed."""
    if not result.error and pod is None:
        return result
    code, _, message = result.error.partition(": ")
    cls = _by_code().get(code)
    if cls is not None and not issubclass(cls, MoverFailed):
        raise cls(message, where=str(result.volume)) from pod
    raise pod or MoverFailed(result.error, where=str(result.volume))


def _by_code() -> dict[str, type[BecalmError]]:
    """Return the classes of the error tree by their codes."""
    found: dict[str, type[BecalmError]] = {}
    waiting: list[type[BecalmError]] = [BecalmError]
    while waiting:
        cls = waiting.pop()
        found.setdefault(cls.code, cls)
        waiting.extend(cls.__subclasses__())
    return found


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def say(message: str, *, done: int | None = None, total: int | None = None) -> None:
    """Write an action's progress into the task's log."""
    if total:
        log.info("%s (%d of %d)", message, done or 0, total)
    else:
        log.info("%s", message)
