"""The DAG of a policy: its graph, word for word, and how each task is tried."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk import DAG
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import DagSerialization

from becalm.airflow.dag import policy_dag
from becalm.airflow.loader import policy_dags
from becalm.airflow.restore import restore_dag
from becalm.airflow.retries import MANNERS
from becalm.airflow.setup import POOLS
from becalm.policy.load import load

GRAPH = """\
begin [setup] all_success -> discover, finish
commit all_done -> prune
discover all_success -> protect.quiesce, protect.snapshot, protect.thaw
export all_done -> upload
finish [teardown] all_done_setup_success ->
protect.quiesce [setup] all_success -> protect.snapshot, protect.thaw
protect.snapshot all_success -> export, protect.thaw
protect.thaw [teardown] all_done_setup_success -> commit, finish
prune all_success -> finish
upload [mapped] all_success -> commit
"""


@pytest.fixture
def dag(policy_text: Callable[..., str]) -> DAG:
    return policy_dag(load(policy_text(), source="shop.yaml"), file=Path("/policies/shop.yaml"))


def drawn(dag: DAG) -> str:
    """Write the graph down: each task, what it is, its trigger rule, and what follows."""
    lines = []
    for task in sorted(dag.tasks, key=lambda task: task.task_id):
        marks = "".join(
            f" [{mark}]" for mark, has in (("setup", task.is_setup), ("teardown", task.is_teardown), ("mapped", task.is_mapped)) if has
        )
        lines.append(f"{task.task_id}{marks} {task.trigger_rule.value} -> {', '.join(sorted(task.downstream_task_ids))}".rstrip())
    return "\n".join(lines) + "\n"


def test_the_graph_is_the_procedure_of_the_design(dag: DAG) -> None:
    """Task names, edges, setups, teardowns and trigger rules are as drawn, and nothing else is there."""
    assert drawn(dag) == GRAPH


def test_the_graph_survives_storing(dag: DAG) -> None:
    """What the scheduler reads back has the same tasks and edges."""
    stored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))

    assert {task.task_id: task.downstream_task_ids for task in stored.tasks} == {
        task.task_id: task.downstream_task_ids for task in dag.tasks
    }


def test_a_teardown_that_fails_fails_the_run(dag: DAG) -> None:
    """Neither an unconfirmed thaw nor a bad verdict can end as a success."""
    assert {task.task_id for task in dag.tasks if task.on_failure_fail_dagrun} == {"protect.thaw", "finish"}


def test_no_leaf_ends_well_whatever_happened(dag: DAG) -> None:
    """A leaf that runs whatever happened would make a failed run a success; the only leaf is finish."""
    assert [task.task_id for task in dag.leaves] == ["finish"]


@pytest.mark.parametrize("name", ["begin", "discover", "quiesce", "snapshot", "thaw", "export", "upload", "commit", "prune", "finish"])
def test_how_a_task_is_tried_is_set_on_purpose(dag: DAG, name: str) -> None:
    """Retries, their delay and policy, the time limit, pool, owner and weight come from the table, never from Airflow's defaults."""
    task = dag.get_task(f"protect.{name}" if name in ("quiesce", "snapshot", "thaw") else name)
    manner = MANNERS[name]

    assert (task.retries, task.retry_delay, task.execution_timeout) == (manner.retries, manner.delay, manner.timeout)
    assert (task.pool, task.owner, task.priority_weight) == (manner.pool, "becalm", manner.priority)
    assert task.retry_policy is not None
    assert task.execution_timeout is not None
    assert task.retry_delay < timedelta(minutes=5)


def test_a_cut_is_never_tried_twice_in_one_window(dag: DAG) -> None:
    """A retry of snapshot would keep the application frozen."""
    assert dag.get_task("protect.snapshot").retries == 0


def test_thaw_comes_before_everything_else(dag: DAG) -> None:
    """Its weight is absolute and the greatest, and its pool is shared with cleaning up only."""
    others = [task.priority_weight for task in dag.tasks if task.task_id != "protect.thaw"]

    assert dag.get_task("protect.thaw").priority_weight > max(others)
    assert {task.task_id for task in dag.tasks if task.pool == "becalm_thaw"} == {"protect.thaw", "finish"}


def test_the_run_has_no_time_limit_and_no_hurry_to_fail(dag: DAG) -> None:
    """Both would skip the teardowns."""
    assert dag.dagrun_timeout is None
    assert dag.fail_fast is False


def test_one_run_at_a_time_and_nothing_made_up_for(dag: DAG) -> None:
    """Missed slots are found in the catalog and backfilled, never caught up by the scheduler."""
    assert (dag.max_active_runs, dag.catchup, dag.start_date) == (1, False, None)


def test_a_new_policy_waits_for_its_next_tick(policy_text: Callable[..., str]) -> None:
    """Even minutes after a tick nothing runs at once: the first slot is the next one."""
    text = policy_text().replace('"0 * * * *"', '"* * * * *"')
    made = policy_dag(load(text, source="shop.yaml"), file=Path("/policies/shop.yaml"))
    stored: SerializedDAG = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(made))
    now = datetime.now(UTC)
    first = stored.next_dagrun_info(last_automated_run_info=None)

    assert first is not None
    assert now < first.run_after <= now + timedelta(minutes=2)


def test_a_policy_without_a_schedule_runs_by_hand_only(policy_text: Callable[..., str]) -> None:
    """No timetable is invented."""
    text = policy_text().replace('  schedule: "0 * * * *"\n', "")
    made = policy_dag(load(text, source="shop.yaml"), file=Path("/policies/shop.yaml"))

    assert made.timetable.can_be_scheduled is False


def test_every_pool_is_made_at_start(dag: DAG) -> None:
    """A task in a pool that does not exist would wait for ever."""
    used = {task.pool for made in (dag, restore_dag(["shop"], folder=Path("/policies"))) for task in made.tasks}

    assert used == set(POOLS)


def test_the_same_policy_is_the_same_dag_again(folder: Path) -> None:
    """Nothing in a DAG depends on when it is parsed: otherwise every parse would be a new version."""
    first, second = (DagSerialization.to_dict(policy_dags(folder)["becalm_policy_shop"]) for _ in range(2))

    assert first == second


def test_a_stored_dag_holds_no_policy(folder: Path) -> None:
    """Only the policy's name, digest and file travel; the target's password reference does not."""
    assert "BECALM_TEST_PASSWORD" not in str(DagSerialization.to_dict(policy_dags(folder)["becalm_policy_shop"]))


RESTORE_GRAPH = """\
approve all_success -> claims
claims [setup] all_success -> finish, restore
finish [teardown] all_done_setup_success ->
objects all_done -> verify
plan all_success -> approve
restore [mapped] all_success -> objects
verify all_success -> finish
"""


def test_the_restore_dag_plans_first() -> None:
    """Then it asks, makes the claims, fills each volume, makes the rest, verifies; and without being told it only plans."""
    dag = restore_dag(["blog", "shop"], folder=Path("/policies"))

    assert drawn(dag) == RESTORE_GRAPH
    assert dag.params["dry_run"] is True
    assert dag.params.get_param("policy").schema["enum"] == ["blog", "shop"]
    assert dag.max_active_runs > 1
    DagSerialization.to_dict(dag)


def test_the_restore_dag_stands_without_policies() -> None:
    """An empty folder is a form without a list, not a broken file."""
    DagSerialization.to_dict(restore_dag([], folder=Path("/policies")))
