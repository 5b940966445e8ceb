"""The reaper's DAG: one task for all policies, tried once, in the pool that is kept free; one policy in trouble keeps no other from being looked after."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from becalm.airflow.reaper import ReapOperator, reaper_dag
from becalm.airflow.retries import MANNERS
from becalm.errors import PermanentError

DAGS = Path(__file__).parents[2] / "dags"


def test_it_is_one_task_that_is_never_tried_twice(folder: Path) -> None:
    """The next tick is near; retries on top of it would only pile up. It starts unpaused: nobody thinks of it before it is needed."""
    dag = reaper_dag(folder=folder)
    (task,) = dag.tasks

    assert (task.task_id, task.retries, task.pool, task.owner) == ("reap", 0, "becalm_thaw", "becalm")
    assert task.execution_timeout == MANNERS["reap"].timeout
    assert task.execution_timeout <= timedelta(minutes=30)
    assert (dag.max_active_runs, dag.catchup, dag.is_paused_upon_creation) == (1, False, False)
    assert DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).task_ids == ["reap"]


def test_a_parse_reads_no_policy_and_loads_no_engine(folder: Path) -> None:
    """The file of the DAG costs the scheduler next to nothing: neither the cluster's client nor any verb comes with it."""
    program = (
        "import sys, runpy\n"
        f"found = runpy.run_path({str(DAGS / 'becalm_reaper.py')!r})\n"
        "print(found['dag'].dag_id, *(n for n in ('kubernetes', 'boto3', 'becalm.actions.reap', 'becalm.policy.load') if n in sys.modules))"
    )
    variables = {**os.environ, "BECALM_POLICIES": str(folder)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=variables)

    assert done.stdout.split()[0] == "becalm_reaper"
    assert not {"kubernetes", "boto3", "becalm.actions.reap"} & set(done.stdout.split())


def test_a_folder_without_a_sound_policy_is_nothing_to_do(folder: Path) -> None:
    """A broken file has a DAG of its own that says so."""
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "broken.yaml").write_text("spec: [unclosed")

    assert ReapOperator(task_id="reap", folder=str(folder)).act() == []


@pytest.mark.usefixtures("database")
def test_a_policy_that_cannot_be_looked_after_is_named(folder: Path) -> None:
    """Its connection does not exist: the error holds the policy and the connection."""
    with pytest.raises(PermanentError, match=r"shop: .*kubernetes_test"):
        ReapOperator(task_id="reap", folder=str(folder)).act()
