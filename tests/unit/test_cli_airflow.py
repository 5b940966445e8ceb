"""`becalm airflow setup` asks a process of Airflow's environment, and shows its answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from becalm.cli.airflow import demand_airflow, examined
from becalm.errors import PermanentError, UsageError

ANSWERS = """
import json, os, pathlib, sys
answer = pathlib.Path(sys.argv[sys.argv.index("--report") + 1])
given = [argument for argument in sys.argv[1:] if argument not in ("--report", str(answer))]
answer.write_text(json.dumps({"ok": False, "rows": [], "given": given, "context": os.environ["_AIRFLOW_PROCESS_CONTEXT"]}))
print("a line of a log that is no JSON")
sys.exit(1)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "examiner.py"


@pytest.mark.parametrize(
    ("check", "policies", "given"),
    [(False, None, []), (True, None, ["--check"]), (True, Path("/etc/policies"), ["--check", "--policies", "/etc/policies"])],
)
def test_the_answer_is_read_whatever_is_printed_beside_it(script: Path, check: bool, policies: Path | None, given: list[str]) -> None:
    """Airflow logs where it likes. What was asked arrives, and connections are read as a server reads them."""
    script.write_text(ANSWERS)
    found = examined(check=check, policies=policies, command=(sys.executable, str(script)))

    assert found == {"ok": False, "rows": [], "given": given, "context": "server"}


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import sys; sys.stderr.write('a log\\nno such table: slot_pool\\n'); sys.exit(1)", "no such table"),
        ("import sys; sys.exit(3)", "ended with 3"),
    ],
)
def test_an_airflow_that_cannot_be_looked_at_is_one_sentence(script: Path, program: str, told: str) -> None:
    """Its last word is the reason; where it said nothing, that is said."""
    script.write_text(program)

    with pytest.raises(PermanentError, match=told):
        examined(check=True, policies=None, command=(sys.executable, str(script)))


def test_without_airflow_the_verb_says_where_to_run_it() -> None:
    """The command line works without Airflow; this one verb does not."""
    with pytest.raises(UsageError, match="not installed") as refused:
        demand_airflow(lambda name: None)

    assert "becalm[airflow]" in refused.value.hint


def test_with_airflow_nothing_is_refused() -> None:
    """It is looked for by its name."""
    asked: list[str] = []
    demand_airflow(lambda name: asked.append(name) or json)

    assert asked == ["airflow"]
