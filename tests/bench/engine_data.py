"""What the engine is measured on: a real tree of files, one large file like a database's, and how both change.

The tree is copied from what a machine with Python on it has: /usr, the interpreter, its packages, caches of Go and of Cargo. Where that is not
enough, the rest is made. The large file has pages of 4 KiB, half of each of words, half of random bytes. All that changes, changes by a seed.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 4096
MEBIBYTE = 1 << 20
_PAGES_AT_ONCE = 8192
_WORD, _VOCABULARY = 8, 2000
_LARGEST_COPIED = 256 * MEBIBYTE


def _sources() -> list[Path]:
    """Return where files are copied from, the most ordinary first."""
    home = Path.home()
    candidates = [
        Path("/usr/share"),
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path("/usr/lib"),
        Path("/usr/include"),
        Path("/usr/local"),
        home / "go" / "pkg" / "mod",
        home / ".cargo" / "registry",
        home / ".cache" / "uv",
        Path("/opt"),
        Path("/var/lib"),
    ]
    found: list[Path] = []
    for candidate in candidates:
        real = candidate.resolve()
        if real.is_dir() and not any(real.is_relative_to(one) for one in found):
            found.append(real)
    return found


def make_tree(root: Path, *, files: int, mebibytes: int) -> tuple[int, int]:
    """Fill a folder with a real tree of at least so many files and bytes. Return how many it has of both."""
    root.mkdir(parents=True)
    copied, size = 0, 0
    for number, source in enumerate(_sources()):
        for path, status in _regular(source, root):
            if copied >= files and size >= mebibytes * MEBIBYTE:
                return copied, size
            if copied >= files and status.st_size < 64 << 10:
                continue  # enough files, not enough bytes
            if size >= 2 * mebibytes * MEBIBYTE and status.st_size > 64 << 10:
                continue  # enough bytes, not enough files
            target = root / f"{number}-{source.name}" / path.relative_to(source)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
            except OSError:
                continue
            copied, size = copied + 1, size + status.st_size
    return _fill(root / "made", copied, size, files=files, mebibytes=mebibytes)


def _regular(source: Path, root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder, names, entries in os.walk(source):
        names[:] = sorted(name for name in names if not (Path(folder) / name).is_relative_to(root.parent))
        for name in sorted(entries):
            path = Path(folder, name)
            try:
                status = path.lstat()
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST_COPIED:
                yield path, status


def _fill(folder: Path, had: int, size: int, *, files: int, mebibytes: int) -> tuple[int, int]:
    """Make what is missing."""
    draw = Random(1)
    words = [draw.randbytes(draw.randrange(2, 9)).hex().encode() for _ in range(4000)]
    missing = max(files - had, (mebibytes * MEBIBYTE - size) // MEBIBYTE, 0)
    each = max(64, (mebibytes * MEBIBYTE - size) // max(missing, 1))
    for number in range(missing):
        place = folder / str(number % 97) / str(number // 97 % 89)
        place.mkdir(parents=True, exist_ok=True)
        body = b" ".join(draw.choices(words, k=each // 10 + 1))
        (place / f"{number}.txt").write_bytes(body)
        had, size = had + 1, size + len(body)
    return had, size


def change_tree(root: Path, *, seed: int) -> int:
    """Change one file of a hundred: some bytes in its middle. Return how many."""
    changed = 0
    draw = Random(seed)
    for path in list_files(root):
        if draw.random() >= 0.01:
            continue
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(draw.randbytes(64))
        changed += 1
    return changed


def list_files(root: Path) -> list[Path]:
    """Return the regular files below a folder, sorted."""
    found = [Path(folder, name) for folder, _, names in os.walk(root) for name in names]
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def make_database(path: Path, *, mebibytes: int) -> None:
    """Write the large file: it calls itself an SQLite database of pages of 4 KiB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(7)
    words = _words()
    with path.open("wb") as file:
        left = mebibytes * MEBIBYTE // PAGE
        while left:
            count = min(left, _PAGES_AT_ONCE)
            pages = _pages(draw, words, count)
            if file.tell() == 0:
                pages[0, :18] = np.frombuffer(b"SQLite format 3\0\x10\x00", dtype=np.uint8)
            file.write(pages.tobytes())
            left -= count


def _words() -> np.ndarray:
    """Return the words of which rows are made: three to seven characters, and blanks up to eight."""
    draw = Random(3)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = ["".join(draw.choices(letters, k=draw.randrange(3, 8))).ljust(_WORD) for _ in range(_VOCABULARY)]
    return np.frombuffer("".join(words).encode(), dtype=np.uint64)


def _pages(draw: np.random.Generator, words: np.ndarray, count: int) -> np.ndarray:
    """Return pages: the first half words, drawn anew for each and some far more often than others; the second random."""
    pages = draw.integers(0, 256, (count, PAGE), dtype=np.uint8)
    chosen = (draw.random((count, PAGE // 2 // _WORD), dtype=np.float32) ** 3 * _VOCABULARY).astype(np.uint16)
    pages[:, : PAGE // 2] = words[np.minimum(chosen, _VOCABULARY - 1)].view(np.uint8)
    return pages


def change_database(path: Path, *, seed: int, undo: dict[int, bytes] | None = None) -> int:
    """Write one page of a hundred anew, scattered. `undo` keeps what stood there. Return how many."""
    draw = np.random.default_rng(seed)
    total = path.stat().st_size // PAGE
    numbers = np.sort(draw.choice(np.arange(1, total), size=total // 100, replace=False)).tolist()
    pages = _pages(draw, _words(), len(numbers))
    with path.open("r+b") as file:
        for number, page in zip(numbers, pages, strict=True):
            if undo is not None:
                file.seek(number * PAGE)
                undo[number] = file.read(PAGE)
            file.seek(number * PAGE)
            file.write(page.tobytes())
    return len(numbers)


def undo_database(path: Path, undo: dict[int, bytes]) -> None:
    """Put back what stood there."""
    with path.open("r+b") as file:
        for number, page in undo.items():
            file.seek(number * PAGE)
            file.write(page)


def warm(root: Path) -> None:
    """Read everything once: all tools begin with the files in the page cache."""
    for path in [root] if root.is_file() else list_files(root):
        with path.open("rb", buffering=0) as file:
            while file.read(4 * MEBIBYTE):
                pass


def differences(source: Path, target: Path, *, sample: int = 300) -> list[str]:
    """Compare two trees: all names, sizes and times, and the bytes of some files. Return what differs."""
    ours, theirs = list_files(source), list_files(target)
    names, found = [path.relative_to(source) for path in ours], [path.relative_to(target) for path in theirs]
    if names != found:
        missing, more = set(names) - set(found), set(found) - set(names)
        return [f"{len(missing)} files are missing, {len(more)} are too many: {sorted(map(str, missing | more))[:3]}"]
    wrong = [
        f"{one}: other size or time"
        for one, other in zip(ours, theirs, strict=True)
        if (one.stat().st_size, one.stat().st_mtime_ns) != (other.stat().st_size, other.stat().st_mtime_ns)
    ]
    chosen = Random(5).sample(range(len(ours)), min(sample, len(ours)))
    wrong += [f"{ours[place]}: other bytes" for place in chosen if digest(ours[place]) != digest(theirs[place])]
    return wrong


def digest(path: Path) -> str:
    """Return the hash of a file."""
    state = sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(4 * MEBIBYTE):
            state.update(piece)
    return state.hexdigest()
