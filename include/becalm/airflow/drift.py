"""Drift as DAGs: one for each policy with a section `drift`, on that section's schedule, and one by hand for any policy.

The task `look` compares, remembers in the bucket what is open and since when, and tells what is new and what is over. That something has
drifted fails no task: it is what the task is to find out. What could not be looked at does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Param
from airflow.serialization.serialized_objects import DagSerialization

from becalm.airflow import broken, notices
from becalm.airflow.connections import ports_for, variable
from becalm.airflow.dag import OWNER, manners
from becalm.airflow.failures import airflow_failures, say
from becalm.errors import PermanentError, PolicyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from becalm.policy.spec import ProtectionPolicy

DRIFT_ID = "becalm_drift"
PREFIX = "becalm_drift_"


def drift_dags(folder: Path, only: str | None = None) -> dict[str, DAG]:
    """Return the DAGs of a folder by their ids: all of them, or the one that a starting task needs. A broken policy has none here."""
    from becalm.policy.load import load_folder  # noqa: PLC0415  (only a parse reads policies)

    if only == DRIFT_ID:
        return {only: drift_dag(None, names=(), folder=folder)}
    if only is not None:
        from becalm.airflow.loader import find_policy  # noqa: PLC0415  (as above)

        found = find_policy(folder, only.removeprefix(PREFIX)) if only.startswith(PREFIX) else None
        return {only: drift_dag(found[1], names=(), folder=folder)} if found else {}
    try:
        policies = [policy for policy in load_folder(folder).values() if not isinstance(policy, Exception)]
    except PolicyError:
        policies = []  # the DAG of that folder says so
    made = {DRIFT_ID: drift_dag(None, names=sorted(policy.name for policy in policies), folder=folder)}
    for policy in policies:
        if policy.spec.drift is not None:
            made[PREFIX + policy.name] = _tried(policy, folder)
    return made


def _tried(policy: ProtectionPolicy, folder: Path) -> DAG:
    """Return the DAG of one policy. That it can be stored is tried here: one that cannot would stop every DAG of the file."""
    try:
        made = drift_dag(policy, names=(), folder=folder)
        DagSerialization.to_dict(made)
    except Exception as error:  # noqa: BLE001  (as said)
        return broken.policy_error_dag(f"drift_{policy.name}", error)
    return made


def drift_dag(policy: ProtectionPolicy | None, *, names: Sequence[str], folder: Path) -> DAG:
    """Return the DAG that looks at a policy, or the one by hand for any of `names`."""
    section = policy.spec.drift if policy else None
    name = policy.name if policy else ""
    with DAG(
        PREFIX + name if name else DRIFT_ID,
        dag_display_name=f"Becalm: drift of {name}" if name else "Becalm: drift",
        description=f"Compares what runs of {name} with what was saved and declared" if name else "Compares any policy, by hand",
        doc_md=__doc__,
        schedule=CronTriggerTimetable(section.schedule, timezone=policy.spec.timezone) if policy and section else None,
        catchup=False,
        max_active_runs=1 if name else 4,
        default_args={"owner": OWNER},
        tags=["becalm", "drift"],
    ) as dag:
        DriftOperator(task_id="look", policy_name=name, folder=str(folder), **manners("drift"))
    if not name:
        chosen: dict[str, Any] = {"enum": list(names)} if names else {"minLength": 1}
        kind = "string" if names else ["null", "string"]
        dag.params.update({"policy": Param(names[0] if names else None, type=kind, title="Policy", **chosen)})
    return dag


class DriftOperator(BaseOperator):
    """Look at the drift of one policy."""

    template_fields: Sequence[str] = ()

    def __init__(self, *, policy_name: str, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.policy_name = policy_name
        self.folder = folder

    def execute(self, context: Context) -> dict[str, int]:
        """Return how much drifted, by weight."""
        with airflow_failures():
            return self.act(self.policy_name or str(context["params"].get("policy") or ""))

    def act(self, name: str) -> dict[str, int]:
        """Do it, with Becalm's own errors."""
        from becalm.actions import drift_look  # noqa: PLC0415  (a parse imports no engine)
        from becalm.airflow.loader import find_policy  # noqa: PLC0415  (only a task reads a policy)

        found = find_policy(Path(self.folder), name)
        if found is None:
            raise UsageError(f"there is no policy {name!r}", where=self.folder, hint="put its file back, or choose another")
        policy = found[1]
        notify = notices.recipients(policy)
        done = drift_look.look(policy, ports_for(policy, progress=say), notify=notify, send=notices.send, search=variable("PATH"))
        last = done.record.looks[-1]
        say(
            f"{last.compared} objects compared with recovery point {last.point[:8]}: {len(done.record.open)} open, {len(done.record.quiet)} acknowledged"
        )
        for one in done.record.open:
            say(f"{one.what}: {one.where}: {one.because}")
        for finding in done.report.findings:
            say(f"not known: {finding}")
        for message in done.sent:
            say(f"told {', '.join(message.to)}: {message.subject}")
        if done.errors:
            raise PermanentError(
                "; ".join(done.errors), where=f"policy {policy.name}", hint="what drifted is remembered; the next look tells it"
            )
        return {"high": last.high, "medium": last.medium, "low": last.low, "unknown": last.unknown}


__all__ = ["DRIFT_ID", "PREFIX", "DriftOperator", "drift_dag", "drift_dags"]
