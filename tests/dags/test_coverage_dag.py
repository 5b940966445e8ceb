"""The DAG of coverage: once a day, unpaused, for every cluster of the folder; a cluster that cannot be looked at is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from becalm.airflow.coverage import COVERAGE_ID, CoverageOperator, coverage_dag
from becalm.errors import PermanentError

DAGS = Path(__file__).parents[2] / "dags"


def test_it_looks_once_a_day_and_starts_unpaused(folder: Path) -> None:
    """Nobody thinks of it before it is needed."""
    dag = coverage_dag(folder=folder)
    (task,) = dag.tasks

    assert (dag.dag_id, dag.catchup, dag.max_active_runs, dag.is_paused_upon_creation) == (COVERAGE_ID, False, 1, False)
    assert (task.task_id, task.retries, task.pool, task.owner) == ("audit", 2, "becalm", "becalm")
    assert DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).task_ids == ["audit"]


def test_a_parse_loads_no_engine(folder: Path) -> None:
    """The file costs the scheduler next to nothing."""
    program = (
        "import sys, runpy\n"
        f"found = runpy.run_path({str(DAGS / 'becalm_coverage.py')!r})\n"
        "print(found['dag'].dag_id, *(n for n in ('kubernetes', 'boto3', 'becalm.actions.census') if n in sys.modules))"
    )
    variables = {**os.environ, "BECALM_POLICIES": str(folder)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=variables)

    assert done.stdout.split() == [COVERAGE_ID]


def test_a_folder_without_a_sound_policy_has_no_cluster_to_look_at(folder: Path) -> None:
    """A broken file has a DAG of its own that says so."""
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "broken.yaml").write_text("spec: [unclosed")

    assert CoverageOperator(task_id="audit", folder=str(folder)).act() == {}


@pytest.mark.usefixtures("database")
def test_a_cluster_that_cannot_be_looked_at_is_named(folder: Path) -> None:
    """Its connection does not exist: the error holds the cluster and the connection."""
    with pytest.raises(PermanentError, match=r"cluster kubernetes_test: .*kubernetes_test"):
        CoverageOperator(task_id="audit", folder=str(folder)).act()


def test_a_claim_that_cannot_be_read_is_named(folder: Path) -> None:
    """It excuses nothing, and nobody believes that it does."""
    (folder / "shop.yaml").unlink()
    (folder / "front.yaml").write_text("apiVersion: becalm.dev/v1\nkind: StatelessClaim\nmetadata: {name: front}\nspec: {}\n")

    with pytest.raises(PermanentError, match=r"front\.yaml"):
        CoverageOperator(task_id="audit", folder=str(folder)).act()
