"""Run every measurement, print one table, and write docs/BENCHMARKS.md: `make bench`.

    python -m tests.bench.run [--only parse,mover,engine,memory,objects,latency,freeze] [--quick] [--rounds 5] [--work /var/tmp]

Each line is a ratio within one run: another program's seconds over ours, or what is allowed over what was measured. One and more
is what is wanted. What cannot be measured here, because a real part is absent, is in the table with the reason. Only a whole run, neither
`--only` nor `--quick`, writes the document. The exit code is 1 where something is below one or could not be measured for an error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import traceback
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import bench_engine, bench_freeze, bench_latency, bench_memory, bench_mover, bench_objects, bench_parse
from tests.bench.engine_tools import programs, versions
from tests.bench.stand import absent, stand
from tests.e2e.harness import World

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "docs" / "BENCHMARKS.md"
MEMORY_MEBIBYTES = 512
SIZE_MEBIBYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line: what was measured, beside what, and how they compare."""

    what: str
    measured: str = ""
    beside: str = ""
    ratio: float | None = None
    note: str = ""
    demanded: bool = True
    """Whether a ratio below one fails the run; else it is told for information."""


@dataclass(slots=True)
class Report:
    """What one run of all measurements found."""

    rows: list[Row] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    loads: dict[str, tuple[float, float]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    rounds: int = 5
    """Of the engine's measurement."""
    others: int | None = None
    """In so many of them kopia and rustic take part; nothing is all."""
    work: Path = Path("/var/tmp")
    """A folder with room for the data."""

    @property
    def good(self) -> bool:
        """Whether everything that was measured is as demanded."""
        return not self.broken and all(row.ratio is None or row.ratio >= 1 or not row.demanded for row in self.rows)


def parse(report: Report, *, quick: bool) -> None:
    """A policy's file becomes a DAG."""
    rows = bench_parse.compare(policies=50 if quick else 500, repeat=3)
    one = float(str(rows[0]["seconds"]))
    report.rows.append(_budget("one policy becomes a DAG, beyond Airflow's own import", one, bench_parse.BUDGET_SECONDS))
    report.rows += [
        Row(what=f"{row['policies']} policies: {row['what']}", measured=f"{row['seconds']:.3f} s", note=f"{row['dags']} DAGs")
        for row in rows[1:]
    ]


def mover(report: Report, *, quick: bool) -> None:
    """The mover beside restic, on the same files and the same bucket server."""
    restic, missing = bench_mover.find_restic(), [name for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID") if not os.environ.get(name)]
    if restic is None or missing:
        reason = f"{', '.join(missing)} not set" if missing else "there is no restic: set RESTIC, or install it"
        report.rows.append(Row(what="the mover beside restic", note=f"not measured: {reason}"))
        return
    found = bench_mover.compare(size=128 if quick else SIZE_MEBIBYTES, rounds=1 if quick else 3, restic=restic)
    size = f"{found['size_mebibytes']} MiB in {found['files']} files"
    for what, told in (("backup", "back up"), ("unchanged", "back up again, unchanged"), ("restore", "restore")):
        one = found[what]
        report.rows.append(
            Row(
                what=f"{told} {size}",
                measured=f"{one['becalm']['seconds']:.1f} s, {one['becalm']['cpu']:.1f} s of processor",
                beside=f"restic: {one['restic']['seconds']:.1f} s, {one['restic']['cpu']:.1f} s of processor",
                ratio=one["ratio"],
                note=f"rounds: {', '.join(map(str, one['ratios']))}",
                demanded=what == "backup",
            )
        )
    most = max(found[what]["becalm"]["memory"] for what in ("backup", "unchanged", "restore"))
    restics = max(found[what]["restic"]["memory"] for what in ("backup", "unchanged", "restore"))
    allowed = f"allowed: {MEMORY_MEBIBYTES} MiB"
    report.rows.append(
        Row(
            what="the mover's memory at most",
            measured=f"{most:.0f} MiB",
            beside=allowed,
            ratio=round(MEMORY_MEBIBYTES / most, 2),
            note=f"restic: {restics:.0f} MiB",
        )
    )


def latency(report: Report, *, quick: bool) -> None:
    """From the trigger to the committed recovery point."""
    if _is_absent(report, "from the trigger to the committed recovery point"):
        return
    with stand() as subject:
        found = bench_latency.compare(subject, runs=2 if quick else 5)
    told = f"runs: {', '.join(map(str, found['runs']))} s; the first after Airflow's start: {found['first']} s"
    report.rows.append(
        _budget(
            "from the trigger to the committed recovery point, one volume with a file of 8 bytes",
            found["median"],
            bench_latency.BUDGET_SECONDS,
            note=told,
        )
    )
    report.details += ["### Where the seconds go, task by task", "", "| task | begins after | takes |", "|---|---|---|"]
    report.details += [f"| {name} | {one['began']:.2f} s | {one['took']:.2f} s |" for name, one in found["tasks"].items()]
    report.details += ["", "`upload` waits in the triggerer, not on a worker, while the mover's pod starts and works.", ""]


def freeze(report: Report, *, quick: bool) -> None:
    """How long an application stands still."""
    if _is_absent(report, "the freeze, beyond the cut"):
        return
    with stand() as subject:
        rows = bench_freeze.compare(subject, runs=1 if quick else 3)
    for row in rows:
        what = f"the freeze beyond the cut: {row['conductor']}, storage {row['storage']}"
        told = f"frozen {row['freeze']:.2f} s, the cut {row['cut']:.2f} s; at worst {row['worst']:.2f} s beyond"
        report.rows.append(_budget(what, row["beyond"], bench_freeze.BUDGET_SECONDS, note=told))
    if not os.environ.get("BECALM_STORAGE_FAULTS"):
        report.rows.append(Row(what="the freeze with slow storage", note="not measured: BECALM_STORAGE_FAULTS names no command"))


def engine(report: Report, *, quick: bool) -> None:
    """The engine beside restic, kopia and rustic, on a real tree and on a large file."""
    missing = [name for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID") if not os.environ.get(name)]
    if missing or "restic" not in programs():
        reason = f"{', '.join(missing)} not set" if missing else "there is no restic: set RESTIC, or install it"
        report.rows.append(Row(what="the engine beside restic", note=f"not measured: {reason}"))
        return
    subject = bench_engine.QUICK if quick else bench_engine.FULL
    found = bench_engine.compare(subject, rounds=1 if quick else report.rounds, others=report.others, work=report.work)
    for one in bench_engine.verdicts(found):
        report.rows.append(
            Row(what=one.what, measured=one.measured, beside=one.beside, ratio=one.ratio, note=one.note, demanded=one.demanded)
        )
    report.details += bench_engine.details(found)
    if found.failures:
        report.broken.append("engine")
        report.rows += [Row(what="the engine", note=f"failed: {failure.splitlines()[0][:200]}") for failure in found.failures]


def memory(report: Report, *, quick: bool) -> None:
    """What a repository of four million blobs and five million files needs in memory."""
    found = bench_memory.compare(bench_memory.QUICK if quick else bench_memory.FULL, work=report.work)
    for one in found.works:
        report.rows.append(
            Row(
                what=f"{one.what}, at most: {found.size}",
                measured=f"{one.memory:.0f} MiB",
                beside=f"allowed: {MEMORY_MEBIBYTES} MiB",
                ratio=round(MEMORY_MEBIBYTES / one.memory, 2),
                note=", ".join(filter(None, (f"{one.seconds:.0f} s", one.told))),
            )
        )
    if found.failures:
        report.broken.append("memory")
        report.rows += [Row(what="memory", note=f"failed: {failure.splitlines()[0][:200]}") for failure in found.failures]


def objects(report: Report, *, quick: bool) -> None:
    """Very many objects, captured at one revision. They stay in the cluster; `python -m tests.bench.bench_objects --clean` removes them."""
    if not os.environ.get("KUBECONFIG"):
        report.rows.append(Row(what="very many objects at one revision", note="not measured: KUBECONFIG not set"))
        return
    field = bench_objects.QUICK if quick else bench_objects.FULL
    found = bench_objects.compare(field, rounds=1 if quick else 3, work=report.work)
    what = f"{found.objects} objects ({found.bytes_read / 1e6:.0f} MB) of {field.kinds} kinds in {field.namespaces} namespaces"
    report.rows += [
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


PARTS: dict[str, Callable[..., None]] = {
    "parse": parse,
    "mover": mover,
    "engine": engine,
    "memory": memory,
    "objects": objects,
    "latency": latency,
    "freeze": freeze,
}


def _budget(what: str, seconds: float, allowed: float, *, note: str = "") -> Row:
    ratio = round(allowed / max(seconds, 0.001), 2)
    return Row(what=what, measured=f"{seconds:.2f} s", beside=f"allowed: {allowed:g} s", ratio=ratio, note=note)


def _is_absent(report: Report, what: str) -> bool:
    reason = absent()
    if reason:
        report.rows.append(Row(what=what, note=f"not measured: {reason}"))
    return bool(reason)


def run(parts: list[str], *, quick: bool, report: Report) -> Report:
    """Run these parts, one after the other; one that fails does not keep the others from running."""
    for name in parts:
        before = os.getloadavg()[0]
        print(f"becalm: measuring {name}", flush=True)
        try:
            PARTS[name](report, quick=quick)
        except Exception as error:  # noqa: BLE001  (each measurement stands alone; this one is told as broken)
            traceback.print_exc()
            report.broken.append(name)
            report.rows.append(Row(what=name, note=f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"))
        report.loads[name] = (before, os.getloadavg()[0])
    return report


def table(report: Report) -> list[str]:
    """Return the rows as a table of Markdown."""
    lines = ["| what | measured | beside | ratio | |", "|---|---|---|---|---|"]
    return lines + [
        f"| {row.what} | {row.measured} | {row.beside} | {'' if row.ratio is None else f'{row.ratio:.2f}'} | {row.note} |"
        for row in report.rows
    ]


def page(report: Report) -> str:
    """Return the document."""
    loads = ", ".join(f"{name} {before:.1f} to {after:.1f}" for name, (before, after) in report.loads.items())
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `make bench`; not by hand.",
            "Each ratio comes from one run: another program's seconds over Becalm's, or what is allowed over what was measured.",
            "One and more is what is wanted.",
            "",
            *table(report),
            "",
            *report.details,
            "## The machine",
            "",
            f"- {datetime.now(tz=UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} processors, {_memory():.0f} GiB of memory, Linux {platform.release().partition('-')[0]}",
            f"- load average (one minute) before and after each part: {loads}",
            *(f"- {fact}" for fact in _versions()),
            "",
            "## How to repeat",
            "",
            "    export KUBECONFIG=… AWS_ENDPOINT_URL=… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…",
            "    export BECALM_MOVER_IMAGE=… BECALM_MOVER_ENDPOINT_URL=…     # the mover's image, and the store's address as pods see it",
            "    export RESTIC=… KOPIA=… RUSTIC=…                           # the tools to compare with; default: the installed ones",
            "    export BECALM_STORAGE_FAULTS=…                             # a command that makes the storage slow, see tests/bench/bench_freeze.py",
            "    make bench",
            "",
            "`python -m tests.bench.run --only parse,mover --quick` measures less and writes nothing.",
            "What needs a part that is not there is told as not measured.",
            "",
        ]
    )


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    named = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _versions() -> list[str]:
    """Return what was measured with what."""
    names = ("becalm", "apache-airflow", "apache-airflow-providers-cncf-kubernetes", "boto3")
    facts = [f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names)]
    facts += versions(programs())
    if os.environ.get("KUBECONFIG"):
        facts.append(
            f"Kubernetes {World.connect(os.environ['KUBECONFIG']).cluster.discover().server_version}, one node on the same machine"
        )
    if os.environ.get("AWS_ENDPOINT_URL"):
        facts.append(f"the bucket server calls itself {_server(os.environ['AWS_ENDPOINT_URL'])}")
    return facts


def _server(endpoint: str) -> str:
    try:
        with urllib.request.urlopen(endpoint, timeout=5) as reply:
            return reply.headers.get("Server") or "nothing"
    except urllib.error.HTTPError as refused:
        return refused.headers.get("Server") or "nothing"
    except OSError:
        return "nothing"


def main() -> int:
    """Measure, print, write, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help=f"some of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="less data and fewer runs")
    parser.add_argument("--rounds", type=int, default=5, help="of the engine's measurement")
    parser.add_argument("--others", type=int, default=None, help="kopia and rustic take part in so many rounds of the engine's only")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"), help="a folder with room for 30 GB")
    parser.add_argument("--json", type=Path, default=None, help="write the rows as JSON as well")
    given = parser.parse_args()
    parts = given.only.split(",") if given.only else list(PARTS)
    if unknown := [name for name in parts if name not in PARTS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was made is removed
    report = run(parts, quick=given.quick, report=Report(rounds=given.rounds, others=given.others, work=given.work))
    print("\n".join([*table(report), "", *report.details]))
    if given.json:
        rows = [{name: getattr(row, name) for name in ("what", "measured", "beside", "ratio", "note", "demanded")} for row in report.rows]
        given.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    if not given.only and not given.quick:
        PAGE.write_text(page(report), encoding="utf-8")
        print(f"written: {PAGE}")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
