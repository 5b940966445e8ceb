"""Run the measurements, print their tables, and write docs/BENCHMARKS.md: `make bench`.

    python -m tests.bench.run [--only parse,tree,file,memory,objects,restore,drift,history,latency,freeze,volumes] [--quick] [--rounds 5] [--work /var/tmp]

Each line is a ratio within one run: another program's seconds over ours, or what is allowed over what was measured. One and more
is what is wanted. What cannot be measured here, because a real part is absent, is in the table with the reason. The document holds each part
as it was measured last; `--quick` writes nothing. The exit code is 1 where something is below one or could not be measured for an error.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import (
    bench_drift,
    bench_engine,
    bench_freeze,
    bench_history,
    bench_latency,
    bench_memory,
    bench_objects,
    bench_parse,
    bench_restore,
    bench_volumes,
)
from tests.bench.engine_tools import programs
from tests.bench.page import PAGE, Part, Row, facts, keep, page
from tests.bench.stand import absent, stand

if TYPE_CHECKING:
    from collections.abc import Callable


MEMORY_MEBIBYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How much is measured, and where."""

    quick: bool = False
    rounds: int = 5
    """Of the engine's measurement."""
    others: int | None = None
    """In so many of them kopia and rustic take part; nothing is all."""
    work: Path = Path("/var/tmp")
    """A folder with room for the data."""


def parse(part: Part, how: How) -> None:
    """A policy's file becomes a DAG."""
    rows = bench_parse.compare(policies=50 if how.quick else 500, repeat=3)
    one = float(str(rows[0]["seconds"]))
    part.rows.append(_budget("one policy becomes a DAG, beyond Airflow's own import", one, bench_parse.BUDGET_SECONDS))
    for row, allowed in zip(rows[1:], (bench_parse.FOLDER_BUDGET_SECONDS, bench_parse.BUDGET_SECONDS), strict=True):
        what, note = f"{row['policies']} policies: {row['what']}", f"{row['dags']} DAGs"
        part.rows.append(_budget(what, float(str(row["seconds"])), allowed, note=note))


def history(part: Part, how: How) -> None:
    """What an object became, over a thousand recovery points."""
    shape = bench_history.QUICK if how.quick else bench_history.FULL
    found = bench_history.measure(shape, rounds=1 if how.quick else 3, work=how.work)
    what = f"{shape.points} points of {shape.objects} objects in {found.where}"
    size = f"it has {found.index_bytes / 1e6:.0f} MB"
    part.rows.append(_budget(f"make the index of {what}", found.build, bench_history.BUILD_SECONDS, note=size))
    part.rows += [
        _budget(f"{question}, index warm", statistics.median(rounds), bench_history.ANSWER_SECONDS, note=f"rounds: {rounds} s")
        for question, rounds in found.answers.items()
    ]


def latency(part: Part, how: How) -> None:
    """From the trigger to the committed recovery point."""
    if _is_absent(part, "from the trigger to the committed recovery point"):
        return
    with stand() as subject:
        found = bench_latency.compare(subject, runs=2 if how.quick else 5)
    told = f"runs: {', '.join(map(str, found['runs']))} s; the first after Airflow's start: {found['first']} s"
    part.rows.append(
        _budget(
            "from the trigger to the committed recovery point, one volume with a file of 8 bytes",
            found["median"],
            bench_latency.BUDGET_SECONDS,
            note=told,
        )
    )
    part.details += ["### Where the seconds go, task by task", "", "| task | begins after | takes |", "|---|---|---|"]
    part.details += [f"| {name} | {one['began']:.2f} s | {one['took']:.2f} s |" for name, one in found["tasks"].items()]
    part.details += ["", "`upload` waits in the triggerer, not on a worker, while the mover's pod starts and works.", ""]


def freeze(part: Part, how: How) -> None:
    """How long an application stands still."""
    if _is_absent(part, "the freeze, beyond the cut"):
        return
    with stand() as subject:
        rows = bench_freeze.compare(subject, runs=1 if how.quick else 3)
    for row in rows:
        what = f"the freeze beyond the cut: {row['conductor']}, storage {row['storage']}"
        told = f"frozen {row['freeze']:.2f} s, the cut {row['cut']:.2f} s; at worst {row['worst']:.2f} s beyond"
        part.rows.append(_budget(what, row["beyond"], bench_freeze.BUDGET_SECONDS, note=told))
    if not os.environ.get("BECALM_STORAGE_FAULTS"):
        part.rows.append(Row(what="the freeze with slow storage", note="not measured: BECALM_STORAGE_FAULTS names no command"))


def volumes(part: Part, how: How) -> None:
    """Many volumes in one policy, under Airflow."""
    if _is_absent(part, "many volumes in one policy"):
        return
    count, size = (4, 64) if how.quick else (20, 1024)
    found = bench_volumes.measure(volumes=count, size=size, data=8 if how.quick else 32, seconds=420)
    wanted = min(found["pool"], found["volumes"])
    part.rows += [
        Row(
            what=f"movers side by side, of {count} volumes of {size} MiB",
            measured=f"{found['movers']}",
            beside=f"the pool's limit: {found['pool']}",
            ratio=round(found["movers"] / wanted, 2),
            note=f"the run took {found['seconds']} s; each volume holds {found['data']} MiB; {found['groups']} group snapshots",
        ),
        Row(
            what="the processor time of Airflow's workers while movers work",
            measured=f"{found['share']} of one processor over {found['moving']} s",
            beside=f"allowed: {bench_volumes.IDLE}",
            ratio=round(bench_volumes.IDLE / max(found["share"], 0.01), 2),
            note=f"{found['working']} uploads held a worker on average: the others were deferred",
        ),
    ]


def tree(part: Part, how: How) -> None:
    """The engine beside restic, kopia and rustic, on a real tree."""
    _engine(part, how, "tree")


def file(part: Part, how: How) -> None:
    """The engine beside restic, kopia and rustic, on a large file."""
    _engine(part, how, "file")


def _engine(part: Part, how: How, subject_of: str) -> None:
    missing = [name for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID") if not os.environ.get(name)]
    if missing or "restic" not in programs():
        reason = f"{', '.join(missing)} not set" if missing else "there is no restic: set RESTIC, or install it"
        part.rows.append(Row(what="the engine beside restic", note=f"not measured: {reason}"))
        return
    subject = bench_engine.QUICK if how.quick else bench_engine.FULL
    rounds = 1 if how.quick else how.rounds
    found = bench_engine.compare(subject, rounds=rounds, others=how.others, work=how.work, only=frozenset({subject_of}))
    for one in bench_engine.verdicts(found):
        part.rows.append(
            Row(what=one.what, measured=one.measured, beside=one.beside, ratio=one.ratio, note=one.note, demanded=one.demanded)
        )
    part.details += bench_engine.details(found)
    if found.failures:
        part.broken = True
        part.rows += [Row(what="the engine", note=f"failed: {failure.splitlines()[0][:200]}") for failure in found.failures]


def memory(part: Part, how: How) -> None:
    """What a repository of four million blobs and five million files needs in memory."""
    found = bench_memory.compare(bench_memory.QUICK if how.quick else bench_memory.FULL, work=how.work)
    for one in found.works:
        part.rows.append(
            Row(
                what=f"{one.what}, at most: {found.size}",
                measured=f"{one.memory:.0f} MiB",
                beside=f"allowed: {MEMORY_MEBIBYTES} MiB",
                ratio=round(MEMORY_MEBIBYTES / one.memory, 2),
                note=", ".join(filter(None, (f"{one.seconds:.0f} s", one.told))),
            )
        )
    if found.failures:
        part.broken = True
        part.rows += [Row(what="memory", note=f"failed: {failure.splitlines()[0][:200]}") for failure in found.failures]


def objects(part: Part, how: How) -> None:
    """Very many objects, captured at one revision. They stay in the cluster; `python -m tests.bench.bench_objects --clean` removes them."""
    if not os.environ.get("KUBECONFIG"):
        part.rows.append(Row(what="very many objects at one revision", note="not measured: KUBECONFIG not set"))
        return
    field = bench_objects.QUICK if how.quick else bench_objects.FULL
    found = bench_objects.compare(field, rounds=1 if how.quick else 3, work=how.work)
    what = f"{found.objects} objects ({found.bytes_read / 1e6:.0f} MB) of {field.kinds} kinds in {field.namespaces} namespaces"
    part.rows += [
        Row(
            what=f"capture {what}",
            measured=f"{found.capture:.1f} s",
            beside=f"allowed: {bench_objects.ALLOWED_RATIO:g} times the bare reading of {found.reading:.1f} s",
            ratio=round(bench_objects.ALLOWED_RATIO / found.ratio, 2),
            note=f"times the bare reading, rounds: {', '.join(map(str, found.ratios))}",
        ),
        Row(
            what="its memory at most",
            measured=f"{found.memory:.0f} MiB",
            beside=f"allowed: {bench_objects.MEMORY_MEBIBYTES} MiB",
            ratio=round(bench_objects.MEMORY_MEBIBYTES / found.memory, 2),
            note=f"bare reading: {found.reading_memory:.0f} MiB",
        ),
        Row(
            what=f"once more, one of {bench_objects.CHANGED} changed, stores",
            measured=f"{100 * found.share:.2f} % of {found.added / 1e6:.0f} MB",
            beside=f"allowed: {100 * bench_objects.ALLOWED_SHARE:g} %",
            ratio=round(bench_objects.ALLOWED_SHARE / max(found.share, 0.0001), 2),
            note=f"{found.again:.1f} s",
        ),
    ]


def restore(part: Part, how: How) -> None:
    """Ten thousand objects, planned and restored, beside bare creation of the same objects."""
    if not os.environ.get("KUBECONFIG"):
        part.rows.append(Row(what="ten thousand objects restored", note="not measured: KUBECONFIG not set"))
        return
    field = bench_restore.QUICK if how.quick else bench_restore.FULL
    found = bench_restore.compare(field, rounds=1 if how.quick else 3, work=how.work)
    what = f"{found.objects} objects in {field.namespaces} namespaces"
    allowed = found.objects / bench_restore.OBJECTS_A_SECOND
    seconds = found.objects / found.rate
    part.rows += [
        _budget(f"plan {what}", found.plan, bench_restore.PLAN_SECONDS, note=f"rounds: {', '.join(map(str, found.plans))} s"),
        Row(
            what=f"restore {what}",
            measured=f"{seconds:.1f} s, {found.rate:.0f} a second",
            beside=f"allowed: {allowed:.1f} s, {bench_restore.OBJECTS_A_SECOND} a second",
            ratio=round(allowed / seconds, 2),
            note=f"rounds: {', '.join(map(str, found.restores))} s",
        ),
        Row(
            what="beside bare creation with the same client",
            measured=f"{found.rate:.0f} a second",
            beside=f"bare, over {bench_restore.CONNECTIONS} connections: {found.bare_rate:.0f} a second",
            ratio=round(found.rate / found.bare_rate, 2),
            note=f"rounds of bare creation: {', '.join(map(str, found.bare))} s",
            demanded=False,
        ),
        Row(
            what="its memory at most",
            measured=f"{found.memory:.0f} MiB",
            beside=f"allowed: {bench_restore.MEMORY_MEBIBYTES} MiB",
            ratio=round(bench_restore.MEMORY_MEBIBYTES / found.memory, 2),
        ),
    ]


def drift(part: Part, how: How) -> None:
    """Ten thousand objects beside their recovery point."""
    if not os.environ.get("KUBECONFIG"):
        part.rows.append(Row(what="drift of ten thousand objects", note="not measured: KUBECONFIG not set"))
        return
    field = bench_drift.QUICK if how.quick else bench_drift.FULL
    found = bench_drift.measure(field, rounds=1 if how.quick else 3, work=how.work)
    told = f"told where nothing had changed: {found.false}; of {found.planted} planted changes found {found.found}, and {found.more} others"
    part.rows += [
        _budget(
            f"drift of {found.objects} objects",
            statistics.median(found.seconds),
            bench_drift.SECONDS,
            note=f"rounds: {found.seconds} s; {told}",
        ),
        Row(
            what="its memory at most",
            measured=f"{found.memory:.0f} MiB",
            beside=f"allowed: {bench_drift.MEMORY_MEBIBYTES} MiB",
            ratio=round(bench_drift.MEMORY_MEBIBYTES / found.memory, 2),
        ),
    ]


PARTS: dict[str, tuple[str, Callable[[Part, How], None]]] = {
    "parse": ("Policies become DAGs", parse),
    "tree": ("The engine: a tree of files", tree),
    "file": ("The engine: one large file", file),
    "memory": ("The engine: a very large repository", memory),
    "objects": ("Very many objects", objects),
    "restore": ("Very many objects, restored", restore),
    "drift": ("Drift of very many objects", drift),
    "history": ("History over many recovery points", history),
    "latency": ("From the trigger to the recovery point", latency),
    "freeze": ("How long an application stands still", freeze),
    "volumes": ("Many volumes side by side", volumes),
}


def _budget(what: str, seconds: float, allowed: float, *, note: str = "") -> Row:
    ratio = round(allowed / max(seconds, 0.001), 2)
    return Row(what=what, measured=f"{seconds:.2f} s", beside=f"allowed: {allowed:g} s", ratio=ratio, note=note)


def _is_absent(part: Part, what: str) -> bool:
    reason = absent()
    if reason:
        part.rows.append(Row(what=what, note=f"not measured: {reason}"))
    return bool(reason)


def measure(name: str, how: How) -> Part:
    """Measure one part; one that fails does not keep the others from running."""
    title, work = PARTS[name]
    part = Part(title=title, facts=facts())
    before = os.getloadavg()[0]
    print(f"becalm: measuring {name}", flush=True)
    try:
        work(part, how)
    except Exception as error:  # noqa: BLE001  (each measurement stands alone; this one is told as broken)
        traceback.print_exc()
        part.broken = True
        part.rows.append(Row(what=name, note=f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"))
    part.load = (before, os.getloadavg()[0])
    return part


def main() -> int:
    """Measure, print, write, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="less data and fewer runs")
    parser.add_argument("--rounds", type=int, default=5, help="of the engine's measurement")
    parser.add_argument("--others", type=int, default=None, help="kopia and rustic take part in so many rounds of the engine's only")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder with room for 30 GB")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was made is removed
    how = How(quick=given.quick, rounds=given.rounds, others=given.others, work=given.work)
    good = True
    for name in names:
        part = measure(name, how)
        good = good and part.good
        print("\n".join([*part.table(), "", *part.details]), flush=True)
        if not given.quick and not part.broken:
            keep(name, part)
            PAGE.write_text(page(list(PARTS)), encoding="utf-8")
            print(f"written: {PAGE}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
