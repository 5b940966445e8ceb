"""What is imported ahead, and where."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from becalm.sandbox.conductor import LOCAL_SETTINGS

DEPLOYED = Path(__file__).parents[2] / "deploy" / "airflow_local_settings.py"

PROBE = """
import sys
from becalm.airflow.warm import MODULES, warm
done = warm(["airflow", sys.argv[1]])
print(len(MODULES), len(done), "kubernetes" in sys.modules, "becalm.actions.snapshot" in sys.modules)
"""


def probe(command: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, command], capture_output=True, text=True, check=True, env=dict(os.environ), timeout=120
    )
    return done.stdout.splitlines()[-1].split()


def test_the_process_that_forks_tasks_imports_everything_ahead() -> None:
    """Every module of the list exists, so that no task imports the cluster's client while an application is frozen."""
    known, done, kubernetes, snapshot = probe("scheduler")

    assert known == done
    assert (kubernetes, snapshot) == ("True", "True")


@pytest.mark.parametrize("command", ["api-server", "dag-processor", "triggerer", "db"])
def test_other_processes_import_nothing(command: str) -> None:
    """They would only start slower."""
    assert probe(command)[1:] == ["0", "False", "False"]


def test_the_airflow_of_the_demo_and_the_tests_starts_as_the_deployed_one() -> None:
    """What is measured is what production does: both import the same ahead, by the same lines."""
    deployed = ast.parse(DEPLOYED.read_text(encoding="utf-8"))

    assert [ast.unparse(line) for line in ast.parse(LOCAL_SETTINGS).body] == [ast.unparse(line) for line in deployed.body[1:]]
