"""A mover pod, run by the Kubernetes provider's operator. Only a task that runs a mover imports this: it takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import (  # noqa: TID253  (this module exists to be imported late)
    KubernetesPodOperator,
)

from becalm.kube.pods import mover_pod

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from becalm.actions.handover import Settings
    from becalm.model import MoverSpec

START_SECONDS = 900
"""How long a pod may wait for its volume, its node and its image. Storage that copies a snapshot is slow."""
LOOK_SECONDS = 1
"""How often the triggerer asks for the pod: one small request each time. The provider asks every five seconds while a pod starts."""
LOG_SECONDS = 5
"""How often the log is fetched while the pod runs: by the triggerer, so that no worker wakes for it. A mover writes a line every two seconds."""


class MoverPod(KubernetesPodOperator):
    """The provider's operator, made outside a DAG for the time of one call."""

    def convert_config_file_to_dict(self) -> None:
        """Leave the trigger to the connection alone: a KUBECONFIG of this process would contradict it there."""
        self._config_dict = None


def pod_operator(task: BaseOperator, spec: MoverSpec, *, connection: str, policy: str, settings: Settings) -> MoverPod:
    """Return an operator for a mover's pod. The same pod is found again by whoever makes the operator for the same task."""
    manifest = mover_pod(spec, image=settings.mover_image, policy=policy, timeout_seconds=settings.mover_timeout_seconds)
    return MoverPod(
        task_id=task.task_id,
        kubernetes_conn_id=connection,
        pod_template_dict=manifest,
        random_name_suffix=False,
        base_container_name=_container(manifest),
        deferrable=True,
        durable=True,
        execution_timeout=task.execution_timeout,
        startup_timeout_seconds=START_SECONDS,
        schedule_timeout_seconds=START_SECONDS,
        startup_check_interval_seconds=LOOK_SECONDS,
        poll_interval=LOOK_SECONDS,
        logging_interval=LOG_SECONDS,
        log_events_on_startup=False,
        log_pod_spec_on_failure=False,
        on_finish_action="delete_pod",
        on_kill_action="delete_pod",
        do_xcom_push=False,
    )


def _container(manifest: dict[str, Any]) -> str:
    name: str = manifest["spec"]["containers"][0]["name"]
    return name
