"""How long an application stands still: measured by the application, in an Airflow run and in one by the command line.

    BECALM_STORAGE_FAULTS="…" python -m tests.bench.bench_freeze --runs 3

The application writes and syncs all the time, and tells how long a write had to wait (`stand.py`): that is the freeze. The cut is what
the recovery point says of it: from asking the cluster for the snapshots until the storage has reported the last. What lies between
freeze and cut is Becalm's own, and Airflow's. BECALM_STORAGE_FAULTS is a command that takes `{"cut_seconds": 2}` or `{"ready_seconds": 60}`
as its argument and makes the storage as slow to cut, or to make a cut readable, which nobody must wait for; without it the storage is
measured only as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.bench.stand import absent, stand
from tests.e2e.harness import becalm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.stand import Stand

BUDGET_SECONDS = 1.0
AS_IT_IS: dict[str, float] = {}
SLOW: tuple[dict[str, float], ...] = ({"cut_seconds": 2.0}, {"ready_seconds": 60.0})
CONDUCTORS = ("Airflow", "command line")


def measure(subject: Stand, conductor: str) -> tuple[float, float]:
    """Make one recovery point; return the freeze as the application felt it, and the cut, in seconds."""
    known = len(subject.stalls())
    if conductor == "Airflow":
        subject.run()
    else:
        subject.run_by_hand()
    time.sleep(0.5)  # the application's last word reaches its log
    described = becalm("show", str(subject.policy), environment=subject.variables)
    assert described["point"]["consistency"] == "application-consistent", described["description"]["consistency"]
    (cut,) = described["description"]["applications"]
    began, ended = (datetime.fromisoformat(cut[moment]).timestamp() for moment in ("began", "ended"))
    freeze = frozen_around(subject.stalls()[known:], began, ended)
    assert freeze > 0, "the application did not notice that it was frozen"
    return freeze, ended - began


def frozen_around(stalls: list[dict[str, float]], began: float, ended: float) -> float:
    """Return how long the write took that waited while the volumes were cut. A disk may be slow at other times, too: that is no freeze."""
    return max(
        (stall["seconds"] for stall in stalls if stall["began"] <= ended and stall["began"] + stall["seconds"] >= began), default=0.0
    )


@contextmanager
def slow_storage(faults: dict[str, float]) -> Iterator[None]:
    """Make the storage as slow; afterwards it is as before."""
    command = shlex.split(os.environ.get("BECALM_STORAGE_FAULTS", ""))
    if faults:
        subprocess.run([*command, json.dumps(faults)], check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        if faults:
            subprocess.run([*command, "{}"], check=True, stdout=subprocess.DEVNULL)


def compare(subject: Stand, *, runs: int) -> list[dict[str, Any]]:
    """Measure each conductor on each storage."""
    subject.run()
    rows = []
    for faults in (AS_IT_IS, *SLOW) if os.environ.get("BECALM_STORAGE_FAULTS") else (AS_IT_IS,):
        with slow_storage(faults):
            for conductor in CONDUCTORS:
                measured = [measure(subject, conductor) for _ in range(runs)]
                assert min(cut for _, cut in measured) >= faults.get("cut_seconds", 0), (
                    "the storage was not as slow as it was told: somebody else changed it"
                )
                beyond = [freeze - cut for freeze, cut in measured]
                rows.append(
                    {
                        "conductor": conductor,
                        "storage": ", ".join(f"{name.removesuffix('_seconds')} after {value:g} s" for name, value in faults.items())
                        or "as it is",
                        "freeze": round(statistics.median(freeze for freeze, _ in measured), 2),
                        "cut": round(statistics.median(cut for _, cut in measured), 2),
                        "beyond": round(statistics.median(beyond), 2),
                        "worst": round(max(beyond), 2),
                    }
                )
    return rows


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    if reason := absent():
        print(reason)
        return 1
    with stand() as subject:
        rows = compare(subject, runs=given.runs)
    for row in rows:
        told = f"frozen {row['freeze']:.2f} s, cut {row['cut']:.2f} s, beyond it {row['beyond']:.2f} s (at worst {row['worst']:.2f} s)"
        print(f"{row['conductor']:12} storage {row['storage']:16} {told}")
    print(json.dumps({"bench": "freeze", "budget_seconds": BUDGET_SECONDS, "rows": rows}))
    return 0 if all(row["beyond"] <= BUDGET_SECONDS for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
