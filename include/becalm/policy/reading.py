"""The bytes of a file that a person wrote: of a regular file only, never of a pipe that would hold up the reader, and never too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.errors import PolicyError, PolicyFinding
from becalm.policy.document import LARGEST_BYTES

if TYPE_CHECKING:
    from pathlib import Path


def file_bytes(path: Path, *, what: str, error: str) -> bytes:
    """Return a file's bytes, one more at most than a document may have.

    `what` names the document (policy, claim) and `error` is the sentence of the PolicyError that is raised where the file cannot be read.
    """
    try:
        if not path.is_file():
            problem = "this is not a regular file" if path.exists() else "there is no such file"
            raise _refused(path, error, problem, f"name a file with one {what}")
        with path.open("rb") as file:
            return file.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as unreadable:
        reason = getattr(unreadable, "strerror", None) or "its name cannot be used"
        raise _refused(path, error, f"the file cannot be read: {reason}", "look at its name and rights") from unreadable


def _refused(path: Path, error: str, problem: str, remedy: str) -> PolicyError:
    return PolicyError(error, where=str(path), findings=(PolicyFinding(path="file", problem=problem, remedy=remedy),))
