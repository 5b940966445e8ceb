"""The DAGs of drills: one on each policy's schedule, one by hand for all; set up and torn down, and light to parse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from airflow.serialization.serialized_objects import DagSerialization

from becalm.airflow.drill import DRILL_ID, STEPS, drill_dags
from becalm.airflow.retries import MANNERS
from becalm.airflow.setup import POOLS

DAGS = Path(__file__).parents[2] / "dags"
DRILL = '  drill: {schedule: "0 4 * * 0", checks: [{select: {labels: app=db}, command: [pg_isready]}]}\n'


def test_each_policy_with_drills_has_a_dag_on_its_schedule_and_all_share_one_by_hand(folder: Path) -> None:
    """The schedule is in the policy's time zone; a policy without drills can still be drilled by hand."""
    (folder / "blog.yaml").write_text((folder / "shop.yaml").read_text().replace("name: shop", "name: blog") + DRILL)
    dags = drill_dags(folder)

    assert set(dags) == {"becalm_drill", "becalm_drill_blog"}
    assert dags["becalm_drill"].params.get_param("policy").schema["enum"] == ["blog", "shop"]
    assert "policy" not in dags["becalm_drill_blog"].params
    assert "Europe/Zurich" in repr(DagSerialization.to_dict(dags["becalm_drill_blog"])["dag"]["timetable"])
    assert dags["becalm_drill"].timetable.can_be_scheduled is False


def test_a_drill_cleans_up_whatever_happens_and_its_verdict_is_the_runs(folder: Path) -> None:
    """Begin and finish are setup and teardown; a drill that did not prove its point is a failed run."""
    dag = drill_dags(folder)[DRILL_ID]
    begin, finish = dag.get_task("begin"), dag.get_task("finish")

    assert [task.task_id for task in dag.topological_sort()] == list(STEPS)
    assert (begin.is_setup, finish.is_teardown, finish.on_failure_fail_dagrun) == (True, True, True)
    assert dag.leaves == [finish]


def test_how_each_task_is_tried_is_set_on_purpose(folder: Path) -> None:
    """By the table; cleaning up is tried most often, and in the pool that is kept free."""
    dag = drill_dags(folder)[DRILL_ID]
    tried = {task.task_id: (task.retries, task.execution_timeout, task.pool) for task in dag.tasks}

    assert tried == {
        step: (MANNERS[f"drill.{step}"].retries, MANNERS[f"drill.{step}"].timeout, MANNERS[f"drill.{step}"].pool) for step in STEPS
    }
    assert tried["finish"][0] == max(retries for retries, _, _ in tried.values())
    assert {pool for _, _, pool in tried.values()} <= set(POOLS)


def test_a_starting_task_reads_only_its_own_policy(folder: Path) -> None:
    """And a DAG that is gone, or was never there, is none."""
    (folder / "shop.yaml").write_text((folder / "shop.yaml").read_text() + DRILL)

    assert set(drill_dags(folder, only="becalm_drill_shop")) == {"becalm_drill_shop"}
    assert set(drill_dags(folder, only="becalm_drill")) == {"becalm_drill"}
    assert drill_dags(folder, only="becalm_drill_gone") == {}


def test_a_broken_policy_harms_no_drill(folder: Path) -> None:
    """Its own DAG says what is wrong; here it is passed over."""
    (folder / "broken.yaml").write_text("spec: [unclosed")

    assert set(drill_dags(folder)) == {"becalm_drill"}


def test_a_parse_loads_no_engine(folder: Path) -> None:
    """Neither the cluster's client nor the bucket's, and no verb."""
    program = (
        "import sys, runpy\n"
        f"found = runpy.run_path({str(DAGS / 'becalm_drill.py')!r})\n"
        "heavy = ('kubernetes', 'boto3', 'becalm.actions.drill', 'becalm.actions.restore', 'becalm.repository.reader')\n"
        "print(found['becalm_drill'].dag_id, *(n for n in heavy if n in sys.modules))"
    )
    variables = {**os.environ, "BECALM_POLICIES": str(folder)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=variables)

    assert done.stdout.split() == ["becalm_drill"]
