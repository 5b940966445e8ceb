"""From the trigger to the committed recovery point: one policy with one nearly empty volume, on a real cluster, by a real Airflow.

    KUBECONFIG=… AWS_ENDPOINT_URL=… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… python -m tests.bench.bench_latency --runs 3

The clock starts before the request that triggers the run is sent, and stops when `commit` has ended: the snapshot object is then in
the bucket, and `finish` has verified it before the run is a success. The first run after Airflow's start is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.bench.stand import absent, stand

if TYPE_CHECKING:
    from tests.bench.stand import Stand

BUDGET_SECONDS = 20.0


def measure(subject: Stand) -> dict[str, tuple[float, float]]:
    """Run once; return when each task began and ended, in seconds after the trigger."""
    began = time.time()
    _, tasks = subject.run()
    return {str(task["task_id"]).rpartition(".")[2]: (_after(began, task["start_date"]), _after(began, task["end_date"])) for task in tasks}


def _after(began: float, moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() - began


def compare(subject: Stand, *, runs: int) -> dict[str, Any]:
    """Run once to wake everything, then `runs` times; return the seconds, and the median of each task's."""
    first = measure(subject)
    measured = [measure(subject) for _ in range(runs)]
    committed = [one["commit"][1] for one in measured]
    tasks = {
        name: {
            "began": round(statistics.median(one[name][0] for one in measured), 2),
            "took": round(statistics.median(one[name][1] - one[name][0] for one in measured), 2),
        }
        for name in sorted(first, key=lambda name: first[name][0])
    }
    return {
        "first": round(first["commit"][1], 2),
        "runs": [round(one, 2) for one in committed],
        "median": round(statistics.median(committed), 2),
        "tasks": tasks,
    }


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    if reason := absent():
        print(reason)
        return 1
    with stand() as subject:
        found = compare(subject, runs=given.runs)
    print(f"load {os.getloadavg()[0]:.1f}; first run {found['first']:.1f} s, then {found['runs']}")
    for name, one in found["tasks"].items():
        print(f"{name:10} began after {one['began']:6.2f} s, took {one['took']:5.2f} s")
    print(json.dumps({"bench": "latency", "budget_seconds": BUDGET_SECONDS, **found}))
    return 0 if found["median"] <= BUDGET_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
