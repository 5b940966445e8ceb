"""What keeps hundreds of policies cheap: a policy's form stands once in its DAG, and a mover's log wakes no worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.providers.cncf.kubernetes.triggers.pod import (  # noqa: TID253  (what Airflow's triggerer runs is what is tried)
    ContainerState,
    KubernetesPodTrigger,
)
from airflow.sdk.definitions.param import process_params
from airflow.serialization.serialized_objects import DagSerialization

from becalm.airflow.drill import drill_dags
from becalm.airflow.form import FORM, params
from becalm.airflow.loader import policy_dags
from becalm.airflow.movers import LOG_SECONDS


def test_the_form_is_stored_once_and_no_task_holds_a_copy(folder: Path) -> None:
    """Airflow checks each copy several times at each parse: ten of them made five hundred policies a matter of minutes."""
    dag = policy_dags(folder)["becalm_policy_shop"]
    stored = DagSerialization.to_dict(dag)["dag"]

    assert sorted(name for name, _ in stored["params"]) == sorted(FORM)
    assert [task.task_id for task in dag.tasks if task.params] == []
    assert json.dumps(stored).count('"maxLength"') == 1


def test_the_form_of_a_drill_is_stored_once_as_well(folder: Path) -> None:
    """By hand and by schedule; its tasks find what was said."""
    (folder / "shop.yaml").write_text((folder / "shop.yaml").read_text() + '  drill: {schedule: "0 4 * * 0"}\n')
    dags = drill_dags(folder)
    found = process_params(dags["becalm_drill"], dags["becalm_drill"].get_task("begin"), {"keep": True}, suppress_exception=False)

    assert sorted(dags) == ["becalm_drill", "becalm_drill_shop"]
    assert [task.task_id for dag in dags.values() for task in dag.tasks if task.params] == []
    assert found == {"policy": "shop", "point": "latest", "keep": True}


def test_a_task_finds_what_was_said_in_the_form_all_the_same(folder: Path) -> None:
    """What a person said, and the default of what was left out."""
    for name in ("begin", "commit"):
        dag = policy_dags(folder)["becalm_policy_shop"]
        found = process_params(dag, dag.get_task(name), {"note": "before the migration"}, suppress_exception=False)

        assert (found["note"], found["quiesce"], sorted(found)) == ("before the migration", True, sorted(FORM))


def test_the_form_of_a_policy_that_is_gone_is_the_same(folder: Path, policy_text: Callable[..., str]) -> None:
    """A run that began with it still finds what was said."""
    (folder / "blog.yaml").write_text(policy_text("blog"))
    gone = policy_dags(folder, only="becalm_policy_gone")["becalm_policy_gone"]

    assert sorted(gone.params) == sorted(FORM)


def test_every_default_of_the_form_is_allowed_by_it() -> None:
    """A scheduled run says nothing, and so begins with the defaults: one that the form refuses would stop every one."""
    for name, param in params().items():
        value = param.resolve()

        assert value == param.value, name


class WatchedPod(KubernetesPodTrigger):
    """The provider's trigger, with a pod that works for a while and then is done."""

    def __init__(self, looks: int) -> None:
        super().__init__(
            pod_name="mover",
            pod_namespace="becalm",
            trigger_start_time=datetime(2026, 1, 31, tzinfo=UTC),
            base_container_name="mover",
            poll_interval=0,
            get_logs=True,
            logging_interval=0.000_001,
        )
        self.left = looks
        self.fetched = 0

    async def _get_pod(self) -> Any:
        self.left -= 1
        return SimpleNamespace()

    def define_pod_container_state(self, pod: Any) -> ContainerState:
        """Say that it works until it was looked at often enough."""
        return ContainerState.RUNNING if self.left > 0 else ContainerState.TERMINATED

    @property
    def pod_manager(self) -> Any:
        """Count how often the log is fetched."""

        async def fetch(pod: Any, *, container_name: str, since_time: object) -> None:
            self.fetched += 1

        return SimpleNamespace(fetch_container_logs_before_current_sec=fetch)


def test_the_log_of_a_mover_is_fetched_while_its_task_goes_on_waiting() -> None:
    """The trigger fetches it itself, again and again, and ends with the pod only: so every few seconds cost no worker anything."""
    trigger = WatchedPod(looks=20)
    event = asyncio.run(trigger._wait_for_container_completion())

    assert event.payload["status"] == "success"
    assert trigger.left == 0
    assert trigger.fetched > 1
    assert LOG_SECONDS <= 10
