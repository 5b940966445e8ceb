"""docs/BENCHMARKS.md, and where its parts are kept: each as `docs/benchmarks/PART.json`, as it was measured last.

A part says when, on what machine and under which load it was measured, for they need not be measured on one day.
"""

from __future__ import annotations

import json
import os
import platform
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.bench.engine_tools import programs, versions
from tests.e2e.harness import World

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "BENCHMARKS.md"
FOLDER = DOCS / "benchmarks"


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
class Part:
    """What one part's measurement found."""

    title: str
    date: str = field(default_factory=lambda: f"{datetime.now(tz=UTC):%Y-%m-%d}")
    rows: list[Row] = field(default_factory=list)
    details: list[str] = field(default_factory=list)
    load: tuple[float, float] = (0.0, 0.0)
    """The load average of one minute, before and after."""
    facts: list[str] = field(default_factory=list)
    """The machine and the versions."""
    broken: bool = False

    @property
    def good(self) -> bool:
        """Whether everything that was measured is as demanded."""
        return not self.broken and all(row.ratio is None or row.ratio >= 1 or not row.demanded for row in self.rows)

    def table(self) -> list[str]:
        """Return the rows as a table of Markdown."""
        lines = ["| what | measured | beside | ratio | |", "|---|---|---|---|---|"]
        return lines + [
            f"| {row.what} | {row.measured} | {row.beside} | {'' if row.ratio is None else f'{row.ratio:.2f}'} | {row.note} |"
            for row in self.rows
        ]


def keep(name: str, part: Part) -> None:
    """Keep what a part has found, in place of what it found before."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(asdict(part), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def kept(name: str) -> Part | None:
    """Return what a part found last, if it was ever measured."""
    file = FOLDER / f"{name}.json"
    if not file.exists():
        return None
    found = json.loads(file.read_text(encoding="utf-8"))
    return Part(**{**found, "rows": [Row(**row) for row in found["rows"]], "load": tuple(found["load"])})


def page(names: list[str]) -> str:
    """Return the document, of all parts that have been measured."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; not by hand.",
        "Each ratio comes from one run: another program's seconds over Becalm's, or what is allowed over what was measured.",
        "One and more is what is wanted; what stays below is explained in [performance.md](performance.md).",
        "",
    ]
    parts = [(name, part) for name in names if (part := kept(name)) is not None]
    for _, part in parts:
        before, after = part.load
        lines += [f"## {part.title}", "", f"Measured on {part.date}; load average before and after: {before:.1f}, {after:.1f}.", ""]
        lines += [*part.table(), "", *part.details, ""]
    facts = dict.fromkeys(fact for _, part in parts for fact in part.facts)
    lines += ["## The machine", "", *(f"- {fact}" for fact in facts), ""]
    lines += [
        "## How to repeat",
        "",
        "    export KUBECONFIG=… AWS_ENDPOINT_URL=… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…",
        "    export BECALM_MOVER_IMAGE=… BECALM_MOVER_ENDPOINT_URL=…     # the mover's image, and the store's address as pods see it",
        "    export RESTIC=… KOPIA=… RUSTIC=…                           # the tools to compare with; default: the installed ones",
        "    export BECALM_STORAGE_FAULTS=…                             # a command that makes the storage slow, see tests/bench/bench_freeze.py",
        "    make bench",
        "",
        "`python -m tests.bench.run --only parse,mover` measures some parts; `--quick` measures less, and writes nothing.",
        "What needs a part that is not there is told as not measured.",
    ]
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text + "\n"


def facts() -> list[str]:
    """Return what was measured with what."""
    names = ("becalm", "apache-airflow", "apache-airflow-providers-cncf-kubernetes", "boto3")
    told = [f"{_processor()}, {os.cpu_count()} processors, {_memory():.0f} GiB of memory, Linux {platform.release().partition('-')[0]}"]
    told.append(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names))
    told += versions(programs())
    if os.environ.get("KUBECONFIG"):
        told.append(f"Kubernetes {World.connect(os.environ['KUBECONFIG']).cluster.discover().server_version}, one node on the same machine")
    if os.environ.get("AWS_ENDPOINT_URL"):
        told.append(f"the bucket server calls itself {_server(os.environ['AWS_ENDPOINT_URL'])}")
    return told


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    named = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return named[0] if named else platform.machine()


def _memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _server(endpoint: str) -> str:
    try:
        with urllib.request.urlopen(endpoint, timeout=5) as reply:
            return reply.headers.get("Server") or "nothing"
    except urllib.error.HTTPError as refused:
        return refused.headers.get("Server") or "nothing"
    except OSError:
        return "nothing"
