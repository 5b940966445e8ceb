"""The pools that the DAGs use, made where they are missing: `python -m becalm.airflow.setup`, once, after `airflow db migrate`.

A task whose pool does not exist waits for ever, and Airflow says nothing. A pool that is there keeps its size.
With `--report FILE` everything else that Becalm needs of Airflow is looked at too; `becalm airflow setup` prints what it finds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from becalm.airflow.advice import Row, State
from becalm.airflow.retries import MOVERS_POOL, POOL, THAW_POOL
from becalm.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

POOLS: dict[str, dict[str, Any]] = {
    POOL: {"slots": 16, "description": "Becalm: ordinary tasks", "include_deferred": False},
    THAW_POOL: {"slots": 8, "description": "Becalm: kept free for thawing and cleaning up", "include_deferred": False},
    MOVERS_POOL: {"slots": 4, "description": "Becalm: mover pods at the same time", "include_deferred": True},
}
"""The pools by name, as Airflow's own command reads them."""

AIRFLOW = (sys.executable, "-m", "airflow")


def ensure_pools(airflow: tuple[str, ...] = AIRFLOW) -> tuple[str, ...]:
    """Make the pools that are missing, by Airflow's command line; return their names. Raises PermanentError."""
    return make_missing(known_pools(airflow), airflow)


def known_pools(airflow: tuple[str, ...] = AIRFLOW) -> dict[str, dict[str, Any]]:
    """Return Airflow's pools by name. Raises PermanentError."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pools.json"
        _run(*airflow, "pools", "export", str(path))  # into a file: what it prints may have log lines in it
        known: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return known


def make_missing(known: Mapping[str, Any], airflow: tuple[str, ...] = AIRFLOW) -> tuple[str, ...]:
    """Make the pools that are not among the known ones; return their names. Raises PermanentError."""
    missing = {name: pool for name, pool in POOLS.items() if name not in known}
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pools.json"
            path.write_text(json.dumps(missing), encoding="utf-8")
            _run(*airflow, "pools", "import", str(path))
    return tuple(missing)


def judge(known: Mapping[str, Mapping[str, Any]], made: Sequence[str]) -> Iterator[Row]:
    """Say how each pool stands: as it was found, and as it is where it was made. Pure."""
    for name, wanted in POOLS.items():
        found = known.get(name)
        if found is None:
            state = State.MADE if name in made else State.CHANGE
            why = "" if name in made else "a task whose pool does not exist waits for ever; `becalm airflow setup` makes it"
            yield Row(what="pool", name=name, state=state, value="made" if name in made else "missing", advised=_slots(wanted), why=why)
        elif found.get("slots") == 0:
            why = "without a slot its tasks wait for ever"
            yield Row(what="pool", name=name, state=State.CHANGE, value=_slots(found), advised=_slots(wanted), why=why)
        elif wanted["include_deferred"] and not found.get("include_deferred", False):
            why = "a mover holds no slot while its pod works, so nothing limits them: let the pool include deferred tasks"
            yield Row(what="pool", name=name, state=State.CHANGE, value="without deferred tasks", advised="with them", why=why)
        else:
            yield Row(what="pool", name=name, state=State.FINE, value=_slots(found))


def report(*, check: bool, folder: Path | None, airflow: tuple[str, ...] = AIRFLOW) -> dict[str, Any]:
    """Look at everything; make missing pools unless it is only a check. Raises PermanentError where Airflow has no database."""
    from becalm.airflow.examine import examine  # noqa: PLC0415  (who only makes pools waits for no policies)

    known = known_pools(airflow)
    made = () if check else make_missing(known, airflow)
    rows = (*judge(known, made), *examine(folder))
    return {"ok": all(row.state is not State.CHANGE for row in rows), "rows": [row.document() for row in rows]}


def _slots(pool: Mapping[str, Any]) -> str:
    return f"{pool.get('slots')} slots"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if not line.startswith("(Background on")]
        last = said[-1:] or ["it said nothing"]
        raise PermanentError(f"`{' '.join(command[-3:])}` failed: {last[0]}", hint="has `airflow db migrate` been run?")


def main(arguments: Sequence[str] = ()) -> int:
    """Make the pools, and say which; or write a report of everything into a file."""
    parser = argparse.ArgumentParser(prog="python -m becalm.airflow.setup", description="Make Becalm's pools in Airflow.")
    parser.add_argument("--report", metavar="FILE", type=Path, help="look at everything else too, and write what was found as JSON")
    parser.add_argument("--check", action="store_true", help="with --report: change nothing")
    parser.add_argument("--policies", metavar="FOLDER", type=Path, help="with --report: the folder of policies")
    given = parser.parse_args(arguments)
    try:
        if given.report is not None:
            found = report(check=given.check, folder=given.policies)
            given.report.write_text(json.dumps(found), encoding="utf-8")
            return 0 if found["ok"] else 1
        made = ensure_pools()
    except PermanentError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"pools made: {', '.join(made)}\n" if made else "all pools are there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
