"""How long policies take to become DAGs, beyond Airflow's own import: one policy (budget 0.3 s), and a folder of many (500: 7 s).

A folder is measured as Airflow parses it: its DAGs are made, and then written out for its database.

    python tests/bench/bench_parse.py --policies 500

Each measurement is a fresh process; the best of `--repeat` counts, for the machine may be busy. Prints a table, and one
JSON document as the last line. Exits with 1 beyond a budget.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

DAGS = Path(__file__).parents[2] / "dags" / "becalm_policies.py"
BUDGET_SECONDS = 0.3
FOLDER, FOLDER_BUDGET_SECONDS = 500, 7.0

POLICY = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {{name: app-{number}}}
spec:
  schedule: "{minute} * * * *"
  select: {{namespaces: [app-{number}]}}
  quiesce:
    hooks:
      - select: {{labels: "app=db"}}
        command: {{freeze: [/hooks/freeze], thaw: [/hooks/thaw]}}
  target: {{url: "s3://backups/prod", connection: becalm_s3, password: becalm_repository}}
  retention: {{last: 3, daily: 14, weekly: 8}}
"""

MEASURE = """
import sys, time
import airflow.sdk, airflow.dag_processing.processor, airflow.models.serialized_dag
started = time.perf_counter()
import runpy
found = {name: dag for name, dag in runpy.run_path(sys.argv[1]).items() if name.startswith("becalm_policy_")}
if len(sys.argv) > 2:
    from airflow.serialization.serialized_objects import DagSerialization
    stored = [DagSerialization.to_dict(dag) for dag in found.values()]
spent = time.perf_counter() - started
print(spent, len(found))
"""


def measure(folder: Path, *, home: str, only: str = "") -> tuple[float, int]:
    """Return the seconds of one parse, and how many DAGs it made."""
    environment = {**os.environ, "AIRFLOW_HOME": home, "BECALM_POLICIES": str(folder), "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    if only:
        environment["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = only
    command = [sys.executable, "-c", MEASURE, str(DAGS), *([] if only else ["stored"])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    seconds, count = done.stdout.splitlines()[-1].split()
    return float(seconds), int(count)


def compare(*, policies: int, repeat: int) -> list[dict[str, object]]:
    """Measure one policy, a folder of many, and what a starting task reads of that folder."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as home:
        for count, only in ((1, ""), (policies, ""), (policies, "becalm_policy_app-0")):
            folder = Path(home) / f"policies-{count}"
            folder.mkdir(exist_ok=True)
            for number in range(count):
                (folder / f"app-{number}.yaml").write_text(POLICY.format(number=number, minute=number % 60))
            best, made = min(measure(folder, home=home, only=only) for _ in range(repeat))
            what = "one of them, as a starting task reads it" if only else "all"
            rows.append({"policies": count, "what": what, "dags": made, "seconds": round(best, 3)})
    return rows


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    rows = compare(policies=given.policies, repeat=given.repeat)
    for row in rows:
        print(f"{row['policies']:>6} policies, {row['what']}: {row['dags']} DAGs in {row['seconds']:.3f} s")
    print(json.dumps({"bench": "parse", "budget_seconds": BUDGET_SECONDS, "folder_budget_seconds": FOLDER_BUDGET_SECONDS, "rows": rows}))
    single, folder, starting = (float(str(row["seconds"])) for row in rows)
    return 0 if max(single, starting) <= BUDGET_SECONDS and (given.policies > FOLDER or folder <= FOLDER_BUDGET_SECONDS) else 1


if __name__ == "__main__":
    sys.exit(main())
