"""The engine beside restic, kopia and rustic: the same files, the same S3 server, in one run, in turns. Prints tables; JSON with --json.

    AWS_ENDPOINT_URL=… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… python -m tests.bench.bench_engine --rounds 5 --work /var/tmp

A tree of 100,000 files and 2 GB or more, and one file of 4 GiB (`engine_data.py`). Each work is a process of its own, as a user or a pod
would start it; a round does all works with all tools, and the order of the tools turns with the round. Figures are medians over the rounds;
a ratio is the median of the ratios within the rounds. What Becalm wrote is checked by restic in each round, and what anyone restored is compared
with what was backed up, so that a fast wrong result cannot pass. RESTIC, KOPIA and RUSTIC name the programs; what is not there is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from tests.bench import engine_data as data
from tests.bench.engine_tools import MoverFailedError, Place, drop, judge, programs, tool, variables, versions
from tests.bench.engine_watch import CommandFailedError, Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.engine_tools import Tool

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One thing that every tool does, and how many times restic's speed is demanded."""

    key: str
    what: str
    demanded: float | None
    against_kopia: bool = False
    against_rustic: bool = False


WORKS = (
    Work(key="tree.first", what="first backup of the tree", demanded=2.0, against_kopia=True, against_rustic=True),
    Work(key="tree.unchanged", what="second backup, nothing changed", demanded=2.5, against_kopia=True),
    Work(key="tree.changed", what="backup after 1 % of the files changed", demanded=2.0, against_kopia=True),
    Work(key="tree.check", what="check with all data read", demanded=1.5),
    Work(key="tree.restore", what="full restore of the tree", demanded=1.5, against_kopia=True),
    Work(key="tree.one", what="restore of one file from the tree's repository", demanded=3.0, against_kopia=True),
    Work(key="file.first", what="first backup of the large file", demanded=2.0, against_kopia=True, against_rustic=True),
    Work(key="file.scattered", what="backup after 1 % of its 4 KiB blocks changed, scattered", demanded=2.0, against_kopia=True),
    Work(key="file.restore", what="restore of the large file", demanded=None),
)
MEMORY_WANTED, MEMORY_LIMIT = 256, 512
"""MiB: of the tree of processes that backs up."""
STORED_AT_MOST, ADDED_AT_MOST = 1.02, 0.35
"""Times restic's bytes: after the first backup; by the scattered change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured on."""

    files: int
    mebibytes: int
    """Of the tree: at least."""
    large: int
    """MiB of the large file."""


FULL = Subject(files=100_000, mebibytes=2048, large=4096)
QUICK = Subject(files=5_000, mebibytes=100, large=256)


@dataclass(slots=True)
class Found:
    """What all rounds have found."""

    tree_files: int = 0
    tree_bytes: int = 0
    large_bytes: int = 0
    rounds: int = 0
    tools: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    took: dict[str, dict[str, dict[int, Measured]]] = field(default_factory=dict)
    """By work, tool and round."""
    failures: list[str] = field(default_factory=list)
    stored: dict[str, dict[str, dict[int, int]]] = field(default_factory=dict)
    """Bytes in the bucket, by what, tool and round."""

    def fail(self, what: str) -> None:
        """Keep a failure, and tell it."""
        self.failures.append(what)
        print(f"  failed: {what}", flush=True)

    def note(self, work: str, name: str, number: int, measured: Measured) -> None:
        """Keep one measurement, and tell it."""
        self.took.setdefault(work, {}).setdefault(name, {})[number] = measured
        print(
            f"  {number + 1}: {work:16} {name:7} {measured.seconds:8.2f} s {measured.cpu:8.2f} s cpu {measured.memory:7.0f} MiB", flush=True
        )

    def note_bytes(self, what: str, name: str, number: int, size: int) -> None:
        """Keep a size, and tell it."""
        self.stored.setdefault(what, {}).setdefault(name, {})[number] = size
        print(f"  {number + 1}: {what:16} {name:7} {size / 1e6:8.1f} MB stored", flush=True)

    def median(self, work: str, name: str, of: str) -> float | None:
        """Return the median of one figure of all rounds."""
        rounds = self.took.get(work, {}).get(name, {})
        return statistics.median(getattr(one, of) for one in rounds.values()) if rounds else None

    def median_bytes(self, what: str, name: str) -> float | None:
        """Return the median of a size."""
        rounds = self.stored.get(what, {}).get(name, {})
        return statistics.median(rounds.values()) if rounds else None

    def ratio(self, work: str, name: str) -> float | None:
        """Return how many times as long the other tool took: the median of the ratios within the rounds."""
        ours, theirs = self.took.get(work, {}).get("becalm", {}), self.took.get(work, {}).get(name, {})
        both = [theirs[number].seconds / ours[number].seconds for number in ours if number in theirs]
        return statistics.median(both) if both else None


class WrongResultError(Exception):
    """A tool was fast, and wrong."""


@contextmanager
def _empty(folder: Path) -> Iterator[Path]:
    """Give an empty folder, and put it aside with all that is in it: it is removed when all is measured.

    ext4 looks at each inode that was freed within the last seconds before it gives out another one: after a hundred thousand files were
    removed, making as many again costs half a minute of processor time, whoever makes them.
    """
    folder.mkdir()
    try:
        yield folder
    finally:
        folder.rename(folder.parent.parent / f"put-aside-{uuid.uuid4().hex}")


class Bench:
    """One run: the data, the bucket server, and the rounds."""

    def __init__(self, subject: Subject, *, work: Path, tools: dict[str, str], only: frozenset[str]) -> None:
        import boto3

        self.subject, self.work, self.tools, self.only = subject, work, tools, only
        self.credentials = variables()
        self.client = boto3.client(
            "s3",
            endpoint_url=self.credentials["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id=self.credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.credentials["AWS_SECRET_ACCESS_KEY"],
        )
        self.tree, self.large = work / "tree", work / "large" / "shop.sqlite"
        self.found = Found(tools=["becalm", *tools], versions=versions(tools))

    def prepare(self) -> None:
        """Make the data."""
        if "tree" in self.only:
            print("becalm: copying a tree", flush=True)
            self.found.tree_files, self.found.tree_bytes = data.make_tree(
                self.tree, files=self.subject.files, mebibytes=self.subject.mebibytes
            )
            print(f"  {self.found.tree_files} files, {self.found.tree_bytes / 1e6:.0f} MB", flush=True)
        if "file" in self.only:
            print("becalm: writing a large file", flush=True)
            data.make_database(self.large, mebibytes=self.subject.large)
            self.found.large_bytes = self.large.stat().st_size

    def round(self, number: int, *, names: list[str]) -> None:
        """Do every work with every tool; who begins turns with the round."""
        turned = names[number % len(names) :] + names[: number % len(names)]
        if "tree" in self.only:
            self._tree_round(number, turned)
        if "file" in self.only:
            for name in turned:
                with self._opened(name) as (subject, place):
                    self._file_round(number, subject, place)
        self.found.rounds = max(self.found.rounds, number + 1)

    def _tree_round(self, number: int, names: list[str]) -> None:
        data.warm(self.tree)
        with ExitStack() as stack:
            subjects = [stack.enter_context(self._opened(name)) for name in names]
            for subject, place in subjects:
                self._do("tree.first", number, subject, partial(subject.back_up, self.tree))
                self.found.note_bytes("tree.first", subject.name, number, self._size(place))
            for subject, _ in subjects:
                self._do("tree.unchanged", number, subject, partial(subject.back_up, self.tree))
            data.change_tree(self.tree, seed=number)
            for subject, _ in subjects:
                self._do("tree.changed", number, subject, partial(subject.back_up, self.tree))
            for subject, _ in subjects:
                self._do("tree.check", number, subject, subject.check)
            for subject, place in subjects:
                self._do("tree.restore", number, subject, partial(self._restore_tree, subject, place))
                self._do("tree.one", number, subject, partial(self._restore_one, subject, place, number))
                self._judge(subject, place)

    def _restore_tree(self, subject: Tool, place: Place) -> Measured:
        with _empty(place.work / "restored") as target:
            measured = subject.restore(target)
            if wrong := data.differences(self.tree, target):
                raise WrongResultError(f"{subject.name} restored something else: {wrong[:3]}")
        return measured

    def _restore_one(self, subject: Tool, place: Place, number: int) -> Measured:
        plain = [path for path in data.list_files(self.tree) if path.stat().st_size > 10_000 and not set("*?[]\\") & set(str(path))]
        chosen = Random(number).choice(plain)
        with _empty(place.work / "restored") as target:
            measured = subject.restore_one(str(chosen.relative_to(self.tree)), target)
            restored = data.list_files(target)
            if [data.digest(path) for path in restored] != [data.digest(chosen)]:
                raise WrongResultError(f"{subject.name} restored {len(restored)} files in place of {chosen}")
        return measured

    def _file_round(self, number: int, subject: Tool, place: Place) -> None:
        name = subject.name
        data.warm(self.large)
        self._do("file.first", number, subject, partial(subject.back_up, self.large.parent))
        first = self._size(place)
        self.found.note_bytes("file.first", name, number, first)
        undo: dict[int, bytes] = {}
        data.change_database(self.large, seed=number, undo=undo)
        try:
            data.warm(self.large)
            self._do("file.scattered", number, subject, partial(subject.back_up, self.large.parent))
            self.found.note_bytes("file.scattered", name, number, self._size(place) - first)
            self._do("file.restore", number, subject, partial(self._restore_large, subject, place))
            self._judge(subject, place)
        finally:
            data.undo_database(self.large, undo)

    def _restore_large(self, subject: Tool, place: Place) -> Measured:
        with _empty(place.work / "restored") as target:
            measured = subject.restore(target)
            if data.digest(target / self.large.name) != data.digest(self.large):
                raise WrongResultError(f"{subject.name} restored another file")
        return measured

    def _do(self, work: str, number: int, subject: Tool, act: Callable[[], Measured]) -> None:
        """Measure one work. What fails is told, and does not keep the others from being measured."""
        try:
            self.found.note(work, subject.name, number, act())
        except (CommandFailedError, WrongResultError, MoverFailedError, OSError) as error:
            self.found.fail(f"{work}, {subject.name}, round {number + 1}: {error}")

    def _judge(self, subject: Tool, place: Place) -> None:
        if subject.name == "becalm" and "restic" in self.tools:
            try:
                judge(self.tools["restic"], place)
            except CommandFailedError as error:
                self.found.fail(f"restic finds fault with what Becalm wrote: {error}")

    def _size(self, place: Place) -> int:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket)
        return sum(info["Size"] for page in pages for info in page.get("Contents", ()))

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[Tool, Place]]:
        """Give a tool an empty repository, and remove all of it after."""
        bucket = f"bench-{name}-{uuid.uuid4().hex[:8]}"
        self.client.create_bucket(Bucket=bucket)
        place = Place(bucket=bucket, work=self.work / bucket, credentials=self.credentials)
        place.work.mkdir()
        try:
            yield tool(name, self.tools, place), place
        finally:
            drop(self.client, bucket)
            shutil.rmtree(place.work, ignore_errors=True)


def compare(
    subject: Subject,
    *,
    rounds: int,
    others: int | None = None,
    work: Path | None = None,
    only: frozenset[str] = frozenset({"tree", "file"}),
) -> Found:
    """Measure all tools that are there; kopia and rustic in the first `others` rounds only. Leaves nothing behind."""
    tools = programs()
    with tempfile.TemporaryDirectory(prefix="becalm-bench-", dir=work) as folder:
        bench = Bench(subject, work=Path(folder), tools=tools, only=only)
        bench.prepare()
        for number in range(rounds):
            print(f"becalm: round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
            few = others is not None and number >= others
            bench.round(number, names=[name for name in bench.found.tools if not few or name in ("becalm", "restic")])
        return bench.found


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One demand, and what was reached: one and more is what is wanted."""

    what: str
    measured: str
    beside: str
    ratio: float | None
    note: str
    demanded: bool = True


def verdicts(found: Found) -> list[Verdict]:
    """Hold what was found against what is demanded."""
    lines: list[Verdict] = []
    for work in WORKS:
        mine = found.median(work.key, "becalm", "seconds")
        if mine is None:
            continue
        against = [("restic", work.demanded or 1.0, work.demanded is not None)]
        against += [(name, 1.0, True) for name, wanted in (("kopia", work.against_kopia), ("rustic", work.against_rustic)) if wanted]
        for name, factor, demanded in against:
            times = found.ratio(work.key, name)
            theirs = found.median(work.key, name, "seconds")
            if times is None or theirs is None:
                lines.append(
                    Verdict(what=work.what, measured=f"{mine:.2f} s", beside="", ratio=None, note=f"not measured: there is no {name}")
                )
                continue
            lines.append(
                Verdict(
                    what=work.what,
                    measured=f"{mine:.2f} s",
                    beside=f"{name}: {theirs:.2f} s",
                    ratio=round(times / factor, 2),
                    note=f"{times:.2f} times as fast" + (f", demanded {factor:g}" if demanded else ", nothing demanded"),
                    demanded=demanded,
                )
            )
    return [*lines, *_sizes(found), *_memory(found)]


def _sizes(found: Found) -> Iterator[Verdict]:
    told = (
        ("tree.first", "bytes stored by the first backup of the tree", STORED_AT_MOST),
        ("file.first", "bytes stored by the first backup of the large file", STORED_AT_MOST),
        ("file.scattered", "bytes added by the scattered change", ADDED_AT_MOST),
    )
    for key, what, most in told:
        mine, theirs = found.median_bytes(key, "becalm"), found.median_bytes(key, "restic")
        if mine and theirs:
            note = f"{mine / theirs:.3f} of restic's, at most {most:g}"
            yield Verdict(
                what=what,
                measured=f"{mine / 1e6:.1f} MB",
                beside=f"restic: {theirs / 1e6:.1f} MB",
                ratio=round(most * theirs / mine, 2),
                note=note,
            )


def _memory(found: Found) -> Iterator[Verdict]:
    backups = ("tree.first", "tree.unchanged", "tree.changed", "file.first", "file.scattered")
    for what, works, allowed in (
        ("memory of the processes that back up, at most", backups, MEMORY_WANTED),
        ("memory of the processes of any work, at most", tuple(work.key for work in WORKS), MEMORY_LIMIT),
    ):
        most = {
            name: max((one.memory for work in works for one in found.took.get(work, {}).get(name, {}).values()), default=0.0)
            for name in found.tools
        }
        if most["becalm"]:
            others = ", ".join(f"{name} {size:.0f} MiB" for name, size in most.items() if name != "becalm" and size)
            yield Verdict(
                what=what,
                measured=f"{most['becalm']:.0f} MiB",
                beside=f"allowed: {allowed} MiB",
                ratio=round(allowed / most["becalm"], 2),
                note=others,
            )


def details(found: Found) -> list[str]:
    """Return all figures as Markdown: seconds, processor seconds, memory, for each tool."""
    lines = [
        "### The engine, all tools",
        "",
        (
            f"A tree of {found.tree_files} files, {found.tree_bytes / 1e9:.2f} GB; one file of {found.large_bytes / 2**30:.2f} GiB in pages of 4 KiB. "
            f"{found.rounds} rounds; medians of: seconds, processor seconds, MiB of all its processes together. {', '.join(found.versions)}."
        ),
        "",
        "| work | " + " | ".join(found.tools) + " |",
        "|---|" + "---|" * len(found.tools),
    ]
    for work in WORKS:
        cells = []
        for name in found.tools:
            figures = [found.median(work.key, name, of) for of in ("seconds", "cpu", "memory")]
            cells.append("" if figures[0] is None else "{:.2f} s, {:.1f} s, {:.0f} MiB".format(*figures))
        if any(cells):
            lines.append(f"| {work.what} | " + " | ".join(cells) + " |")
    for key, what in (
        ("tree.first", "MB stored, the tree"),
        ("file.first", "MB stored, the large file"),
        ("file.scattered", "MB added, scattered change"),
    ):
        sizes = [found.median_bytes(key, name) for name in found.tools]
        if any(sizes):
            lines.append(f"| {what} | " + " | ".join("" if size is None else f"{size / 1e6:.1f}" for size in sizes) + " |")
    return [*lines, ""]


def document(found: Found) -> dict[str, Any]:
    """Return everything as JSON would have it."""
    return asdict(found) | {
        "took": {
            work: {name: {n: asdict(one) | {"output": ""} for n, one in rounds.items()} for name, rounds in tools.items()}
            for work, tools in found.took.items()
        }
    }


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--others", type=int, default=None, help="kopia and rustic take part in so many rounds only")
    parser.add_argument("--only", default="tree,file", help="tree, file or both")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.files} files, a file of {QUICK.large} MiB, one round")
    parser.add_argument("--size-scale", type=float, default=1.0, help="a part of the full size")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder with room for ten times the data")
    parser.add_argument("--json", type=Path, default=None, help="write all figures there")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was made is removed
    scale = given.size_scale
    subject = (
        QUICK
        if given.quick
        else Subject(files=int(FULL.files * scale), mebibytes=int(FULL.mebibytes * scale), large=int(FULL.large * scale))
    )
    found = compare(
        subject, rounds=1 if given.quick else given.rounds, others=given.others, work=given.work, only=frozenset(given.only.split(","))
    )
    print("\n".join(details(found)))
    reached = verdicts(found)
    for one in reached:
        print(f"{'' if one.ratio is None else f'{one.ratio:.2f}':>6}  {one.what}: {one.measured}; {one.beside}; {one.note}")
    for failure in found.failures:
        print(f"failed  {failure}")
    if given.json:
        given.json.write_text(json.dumps(document(found), indent=1) + "\n", encoding="utf-8")
    return 0 if not found.failures and all(one.ratio is None or one.ratio >= 1 or not one.demanded for one in reached) else 1


if __name__ == "__main__":
    sys.exit(main())
