"""Processes of this machine that belong to containers: found by the mark in their environment, stopped, ended. Ends nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def marked(variable: str, value: str, *, below: bool = False) -> list[int]:
    """Return the processes whose environment sets a variable to a value, or to a path below it."""
    wanted = f"{variable}={value}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            settings = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # gone meanwhile, or of another user
        if any(setting == wanted or (below and setting.startswith(wanted + b"/")) for setting in settings):
            found.append(int(folder.name))
    return found


def end_marked(variable: str, value: str, *, below: bool = False) -> None:
    """Kill the processes that carry a mark."""
    for process in marked(variable, value, below=below):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to the process group of a container's first process; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


@contextlib.contextmanager
def held(leaders: list[int]) -> Iterator[None]:
    """Stop process groups for a moment, as a storage array holds all writes while it cuts."""
    for leader in leaders:
        signal_group(leader, signal.SIGSTOP)
    try:
        yield
    finally:
        for leader in leaders:
            signal_group(leader, signal.SIGCONT)
