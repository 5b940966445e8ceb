"""Volumes and snapshots as folders below the sandbox's state: made, copied, forgotten. Knows handles, never API objects."""

# ruff: noqa: ASYNC240  (one look at a local folder is no wait)

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class DiskError(Exception):
    """A copy that did not work, or a source that is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is known of a snapshot besides its data."""

    block: bool
    size_bytes: int
    cut_nanoseconds: int
    ready_nanoseconds: int

    def ready(self) -> bool:
        """Say whether the storage lets it be used."""
        return time.time_ns() >= self.ready_nanoseconds


class Disks:
    """The folders. A block volume is a file of its size."""

    def __init__(self, root: Path) -> None:
        """Keep everything below one folder."""
        self._volumes = root / "volumes"
        self._snapshots = root / "snapshots"
        for folder in (self._volumes, self._snapshots):
            folder.mkdir(parents=True, exist_ok=True)

    def volume(self, handle: str) -> Path:
        """Return where a volume's data stands: a folder, or a file for a block volume."""
        return self._volumes / handle

    def snapshot(self, handle: str) -> Path:
        """Return where a snapshot's data stands."""
        return self._snapshots / handle

    async def make(self, handle: str, *, block: bool, size_bytes: int) -> None:
        """Make an empty volume; one that is there stays."""
        path = self.volume(handle)
        if path.exists():
            return
        if block:
            with path.open("wb") as file:
                file.truncate(size_bytes)
        else:
            path.mkdir(mode=0o777)
            path.chmod(0o777)

    async def make_from(self, handle: str, source: Path, *, block: bool, size_bytes: int) -> None:
        """Make a volume with what a snapshot or another volume holds. Raises: DiskError."""
        await _copy(source, self.volume(handle))
        if block:
            os.truncate(self.volume(handle), max(size_bytes, self.volume(handle).stat().st_size))

    async def cut(self, volume: str, snapshot: str, *, size_bytes: int, ready_seconds: float) -> Cut:
        """Copy a volume as a snapshot. The caller sees to it that nobody writes meanwhile. Raises: DiskError."""
        source, target = self.volume(volume), self.snapshot(snapshot)
        now = time.time_ns()
        await _copy(source, target)
        cut = Cut(block=source.is_file(), size_bytes=size_bytes, cut_nanoseconds=now, ready_nanoseconds=now + int(ready_seconds * 1e9))
        self._card(snapshot).write_text(json.dumps(asdict(cut)))
        return cut

    def known(self, snapshot: str) -> Cut | None:
        """Return what is known of a snapshot; nothing if it is not there."""
        try:
            return Cut(**json.loads(self._card(snapshot).read_text()))
        except FileNotFoundError:
            return None

    async def forget_volume(self, handle: str) -> None:
        """Remove a volume; one that is gone is fine."""
        await _remove(self.volume(handle))

    async def forget_snapshot(self, handle: str) -> None:
        """Remove a snapshot; one that is gone is fine."""
        self._card(handle).unlink(missing_ok=True)
        await _remove(self.snapshot(handle))

    def _card(self, snapshot: str) -> Path:
        return self._snapshots / f"{snapshot}.json"


async def _copy(source: Path, target: Path) -> None:
    """Copy with owners, modes, times, links, attributes and holes; the target appears whole or not at all."""
    if target.exists():
        return
    if not source.exists():
        raise DiskError(f"there is no {source.name}")
    part = target.with_name(f"{target.name}.part")
    await _remove(part)
    process = await asyncio.create_subprocess_exec(
        "cp", "-a", "--reflink=auto", "--sparse=auto", "--", str(source), str(part), stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode:
        await _remove(part)
        raise DiskError(f"cannot copy {source.name}: {said.decode(errors='replace').strip()}")
    part.rename(target)


async def _remove(path: Path) -> None:
    if path.is_dir():
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}


def size_of(quantity: str) -> int:
    """Read a Kubernetes quantity of bytes."""
    text = str(quantity)
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return int(float(text))


def quantity_of(size_bytes: int) -> str:
    """Write bytes as a quantity."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size_bytes and size_bytes % _UNITS[unit] == 0:
            return f"{size_bytes // _UNITS[unit]}{unit}"
    return str(size_bytes)
