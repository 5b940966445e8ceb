"""The pools that the DAGs use, made where they are missing: `python -m becalm.airflow.setup`, once, after `airflow db migrate`.

A task whose pool does not exist waits for ever, and Airflow says nothing. A pool that is there keeps its size.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from becalm.airflow.retries import MOVERS_POOL, POOL, THAW_POOL
from becalm.errors import PermanentError

POOLS: dict[str, dict[str, Any]] = {
    POOL: {"slots": 16, "description": "Becalm: ordinary tasks", "include_deferred": False},
    THAW_POOL: {"slots": 8, "description": "Becalm: kept free for thawing and cleaning up", "include_deferred": False},
    MOVERS_POOL: {"slots": 4, "description": "Becalm: mover pods at the same time", "include_deferred": True},
}
"""The pools by name, as Airflow's own command reads them."""


def ensure_pools(airflow: tuple[str, ...] = (sys.executable, "-m", "airflow")) -> tuple[str, ...]:
    """Make the pools that are missing, by Airflow's command line; return their names. Raises PermanentError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pools.json"
        _run(*airflow, "pools", "export", str(path))  # into a file: what it prints may have log lines in it
        known = json.loads(path.read_text(encoding="utf-8"))
        missing = {name: pool for name, pool in POOLS.items() if name not in known}
        if missing:
            path.write_text(json.dumps(missing), encoding="utf-8")
            _run(*airflow, "pools", "import", str(path))
    return tuple(missing)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["it said nothing"]
        raise PermanentError(f"`{' '.join(command[-3:])}` failed: {last[0]}", hint="has `airflow db migrate` been run?")


def main() -> int:
    """Make the pools, and say which."""
    try:
        made = ensure_pools()
    except PermanentError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"pools made: {', '.join(made)}\n" if made else "all pools are there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
