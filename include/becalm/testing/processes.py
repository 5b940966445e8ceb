"""Find the processes below one, as Linux tells (proc(5)); what ends while it is looked at is left out."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def descendants(root: int) -> list[int]:
    """Return a process and all below it."""
    found = [root]
    for pid in found:
        with suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):
                    found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def crew_workers(root: int | None = None) -> list[int]:
    """Return the worker processes of the engine's crews below a process; below this one where none is named."""
    return [pid for pid in descendants(root or os.getpid())[1:] if b"becalm.repository.crew" in _command(pid)]


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
