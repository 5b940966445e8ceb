"""A command in a container, with "unknown" as an outcome: a lost stream says nothing of what the command did, and may be doing still."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  (part of a noun that may be handed on)
from enum import StrEnum
from typing import TYPE_CHECKING

from becalm.errors import ClusterUnavailable, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from becalm.clock import Clock
    from becalm.kube.base import Cluster

MOST_OUTPUT_BYTES = 1024 * 1024
"""How much of each stream is kept: what a hook says is for a person."""
LONGEST_SAYING = 300


class End(StrEnum):
    """How a command ended, as far as is known."""

    DONE = "done"
    """Exit code 0."""
    FAILED = "failed"
    """Another exit code; 126 and 127 also where it could not be started."""
    UNKNOWN = "unknown"
    """It may have run, may be running, or may never have begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is known of a command, and between which two moments it happened."""

    end: End
    stdout: bytes = b""
    stderr: bytes = b""
    exit_code: int | None = None
    reason: str = ""
    """One line for a person: why it is not `done`."""
    asked: datetime
    answered: datetime

    @property
    def done(self) -> bool:
        """Whether it ended well."""
        return self.end is End.DONE


def run(
    cluster: Cluster,
    clock: Clock,
    *,
    namespace: str,
    pod: str,
    container: str,
    command: Sequence[str],
    timeout_seconds: float,
    stdin: bytes = b"",
    out: Callable[[bytes], object] | None = None,
) -> Outcome:
    """Run a command and say what is known of it; never later than its time allows. With `out`, standard output goes there as it comes.

    Raises: NotFound (no such container, or it does not run) and AccessDenied: then the command was certainly not started.
    """
    asked, began = clock.now(), clock.monotonic()
    try:
        result = cluster.exec(namespace, pod, container=container, command=command, stdin=stdin, timeout_seconds=timeout_seconds, out=out)
    except (ClusterUnavailable, Throttled) as error:
        return Outcome(end=End.UNKNOWN, reason=str(error), asked=asked, answered=clock.now())
    stdout, stderr = _capped(result.stdout), _capped(result.stderr)
    if result.exit_code is None:
        late = clock.monotonic() - began >= timeout_seconds
        reason = f"no answer within {timeout_seconds:g} s" if late else "the stream ended before the command's exit code came"
        end = End.UNKNOWN
    elif result.exit_code:
        said = saying(stderr.strip() or stdout.strip())
        end, reason = End.FAILED, f"exit code {result.exit_code}" + (f": {said}" if said else "")
    else:
        end, reason = End.DONE, ""
    return Outcome(end=end, stdout=stdout, stderr=stderr, exit_code=result.exit_code, reason=reason, asked=asked, answered=clock.now())


def saying(output: bytes) -> str:
    """Return the end of what a command said, as a person can read it: no control character of it ever reaches a terminal or a log."""
    text = output[-4 * LONGEST_SAYING :].decode(errors="replace")
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text).strip()[
        -LONGEST_SAYING:
    ]


def _capped(output: bytes) -> bytes:
    dropped = len(output) - MOST_OUTPUT_BYTES
    return output if dropped <= 0 else output[:MOST_OUTPUT_BYTES] + f"\n({dropped} bytes more)".encode()
