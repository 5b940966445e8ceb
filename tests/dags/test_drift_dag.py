"""The DAGs of drift: one by hand for any policy, and one on its schedule for each that asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from becalm.airflow.drift import DRIFT_ID, DriftOperator, drift_dags
from becalm.errors import BecalmError, UsageError

DAGS = Path(__file__).parents[2] / "dags"


def scheduled(folder: Path) -> None:
    """Give the policy of the folder a section."""
    file = folder / "shop.yaml"
    file.write_text(file.read_text().rstrip("\n") + '\n  drift: {schedule: "30 6 * * *"}\n')


def test_a_policy_that_asks_for_it_has_a_dag_on_its_schedule(folder: Path) -> None:
    """One by hand is always there, with the policies to choose from."""
    before = set(drift_dags(folder))
    scheduled(folder)
    made = drift_dags(folder)
    dag = made["becalm_drift_shop"]
    (task,) = dag.tasks

    assert (before, set(made)) == ({DRIFT_ID}, {DRIFT_ID, "becalm_drift_shop"})
    assert (task.task_id, task.retries, dag.catchup, dag.max_active_runs) == ("look", 2, False, 1)
    assert made[DRIFT_ID].params["policy"] == "shop"
    assert DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).task_ids == ["look"]


def test_a_starting_task_reads_one_policy(folder: Path) -> None:
    """Whatever else is in the folder."""
    scheduled(folder)
    (folder / "broken.yaml").write_text("spec: [unclosed")

    assert set(drift_dags(folder, "becalm_drift_shop")) == {"becalm_drift_shop"}
    assert set(drift_dags(folder, "becalm_drift_other")) == set()
    assert set(drift_dags(folder, DRIFT_ID)) == {DRIFT_ID}


def test_a_parse_loads_no_engine(folder: Path) -> None:
    """The file costs the scheduler next to nothing."""
    program = (
        "import sys, runpy\n"
        f"found = runpy.run_path({str(DAGS / 'becalm_drift.py')!r})\n"
        "print(*(n for n in found if n.startswith('becalm_')), *(n for n in ('kubernetes', 'boto3', 'dulwich') if n in sys.modules))"
    )
    variables = {**os.environ, "BECALM_POLICIES": str(folder)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=variables)

    assert done.stdout.split() == [DRIFT_ID]


def test_a_policy_that_is_not_there_is_named(folder: Path) -> None:
    """By the name that was chosen."""
    with pytest.raises(UsageError, match="other"):
        DriftOperator(task_id="look", policy_name="", folder=str(folder)).act("other")


@pytest.mark.usefixtures("database")
def test_a_cluster_that_cannot_be_looked_at_is_named(folder: Path) -> None:
    """Its connection does not exist."""
    with pytest.raises(BecalmError, match="kubernetes_test"):
        DriftOperator(task_id="look", policy_name="shop", folder=str(folder)).act("shop")
