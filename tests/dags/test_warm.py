"""What is imported ahead, and where."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
