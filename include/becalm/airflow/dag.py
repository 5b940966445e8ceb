"""A policy becomes a DAG. The graph is the same for every policy and reads as the procedure of a backup.

    begin ─▶ discover ─▶ protect[application]{quiesce ─▶ snapshot ─▶ thaw} ─▶ export ─▶ upload[volume] ─▶ commit ─▶ prune ─▶ finish

`begin` and `finish` are setup and teardown of the run, `quiesce` and `thaw` of each application. `export` and `commit` run
whatever became of single applications and volumes. No run has a time limit: one would skip the teardowns.

A policy's DAG has no start date. Its first run is the first tick after it appears; what was missed before is not made up
for. This module reads no file and knows no time.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import yaml
from airflow.sdk import DAG, CronTriggerTimetable, task_group
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from becalm.airflow import form
from becalm.airflow.handed import GROUP
from becalm.airflow.links import point_address
from becalm.airflow.operators import OPERATORS
from becalm.airflow.retries import MANNERS, RETRY_POLICY
from becalm.policy.spec import Missed
from becalm.policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from airflow.sdk import BaseOperator

    from becalm.policy.spec import ProtectionPolicy

OWNER = "becalm"
PREFIX = "becalm_policy_"
"""No name of a policy can make another DAG of Becalm's: a policy's name has no underscore."""

WHATEVER_HAPPENED = "all_done"
LATE = "becalm.airflow.notices.deadline_missed"
MISSED = {Missed.LATEST: "one recovery point answers them all", Missed.ALL: "a backfill makes one recovery point for each"}
NOT_SHOWN: Any = {"spec": {"target": {"password", "connection"}}}
"""Where a key or a password stands is nobody's business who only reads the page."""
DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""Five hundred policies are written at each parse: the one in C is ten times faster."""


def dag_id(policy: str) -> str:
    """Return the id of a policy's DAG."""
    return PREFIX + policy


def manners(task: str) -> dict[str, Any]:
    """Return how a task is tried, as arguments of an operator."""
    manner = MANNERS[task]
    return {
        "owner": OWNER,
        "retries": manner.retries,
        "retry_delay": manner.delay,
        "retry_policy": RETRY_POLICY,
        "execution_timeout": manner.timeout,
        "pool": manner.pool,
        "priority_weight": manner.priority,
        "weight_rule": "absolute",
    }


def policy_dag(
    policy: ProtectionPolicy,
    *,
    file: Path,
    created: datetime | None = None,
    operators: Mapping[str, type[Any]] = OPERATORS,
) -> DAG:
    """Return the DAG of a policy. `operators` gives the class of each task; tests pass others."""
    cron = policy.spec.schedule
    with DAG(
        dag_id(policy.name),
        description=f"Protects {', '.join(policy.spec.select.namespaces)} of {policy.spec.cluster}",
        dag_display_name=f"Protect {policy.name}",
        doc_md=_describe(policy),
        schedule=CronTriggerTimetable(cron, timezone=policy.spec.timezone, run_immediately=timedelta(0)) if cron else None,
        start_date=created,
        catchup=False,
        max_active_runs=1,
        deadline=_deadlines(policy),
        tags=["becalm", "policy", policy.spec.environment.value],
    ) as dag:
        _graph(dag, {"policy_name": policy.name, "policy_digest": policy.digest, "policy_file": str(file)}, operators)
    return _with_form(dag)


def orphan_dag(name: str, *, file: Path) -> DAG:
    """Return the DAG of a policy whose file is gone, for a task of a run that began with it: to thaw, to finish, to say so."""
    with DAG(dag_id(name), schedule=None, catchup=False, max_active_runs=1, tags=["becalm", "policy"]) as dag:
        _graph(dag, {"policy_name": name, "policy_digest": "", "policy_file": str(file)}, OPERATORS)
    return _with_form(dag)


def _with_form(dag: DAG) -> DAG:
    """Give a DAG its form, once its tasks stand: each task made after it would hold a copy, and Airflow would check every copy at each parse.

    A task finds what was said all the same: a run's parameters begin with those of its DAG.
    """
    dag.params.update(form.params())
    return dag


def _graph(dag: DAG, where: dict[str, Any], operators: Mapping[str, type[Any]]) -> None:
    """Draw the procedure into a DAG."""

    def task(name: str, **more: Any) -> Any:
        return operators[name](task_id=name, **where, **manners(name), **more)

    begin, discover = task("begin").as_setup(), task("discover")
    protect = _protect(operators, where).expand(application=discover.output)
    export = task("export", trigger_rule=WHATEVER_HAPPENED)
    upload = (
        operators["upload"]
        .partial(task_id="upload", map_index_template="{{ volume | default('') }}", **where, **manners("upload"))
        .expand(spec=export.output)
    )
    commit, prune, finish = task("commit", trigger_rule=WHATEVER_HAPPENED), task("prune"), task("finish")

    thaw = dag.get_task(f"{GROUP}.thaw")
    begin >> discover >> protect >> export >> upload >> commit >> prune
    thaw >> commit  # what follows a group does not wait for its teardowns, and the recovery point needs the label
    [prune, thaw] >> finish.as_teardown(setups=begin, on_failure_fail_dagrun=True)


def _protect(operators: Mapping[str, type[Any]], where: dict[str, Any]) -> Any:
    """Return the group of one application, to be mapped over them."""

    @task_group(group_id=GROUP)
    def protect(application: Any) -> None:
        def task(name: str) -> BaseOperator:
            made: BaseOperator = operators[name](
                task_id=name, application=application, map_index_template="{{ app_name | default('') }}", **where, **manners(name)
            )
            return made

        quiesce, snapshot, thaw = task("quiesce"), task("snapshot"), task("thaw")
        quiesce >> snapshot >> thaw.as_teardown(setups=quiesce, on_failure_fail_dagrun=True)

    return protect


def _deadlines(policy: ProtectionPolicy) -> list[DeadlineAlert]:
    """Return the alert for a run that takes too long, whoever started it, counted from the moment it is queued; without an objective none."""
    longest = policy.spec.alerts.deadline or policy.spec.objectives.rpo
    if longest is None:
        return []
    told = {"policy": policy.name, "seconds": longest.total_seconds(), "notify": list(policy.spec.alerts.notify)}
    return [
        DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            interval=longest,
            callback=AsyncCallback(LATE, kwargs=told),
            name=f"{policy.name} within {format_duration(longest)}",
        )
    ]


def _describe(policy: ProtectionPolicy) -> str:
    """Return what the DAG's page says: the policy in sentences and as it is written. Nothing in it depends on when it is read."""
    spec = policy.spec
    document = yaml.dump(
        policy.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=NOT_SHOWN),
        Dumper=DUMPER,
        sort_keys=False,
        allow_unicode=True,
    )
    return "\n".join(
        [
            f"### Protection policy {policy.name}",
            "",
            f"- cluster: `{spec.cluster}`",
            f"- namespaces: {', '.join(f'`{name}`' for name in spec.select.namespaces)}",
            f"- schedule: {f'`{spec.schedule}` ({spec.timezone})' if spec.schedule else 'by hand only'}",
            f"- recovery points: [`{spec.target.repository_url(policy.name)}`]({point_address(policy.name, '')})",
            *(
                [f"- objective: a good recovery point, never older than {format_duration(spec.objectives.rpo)}"]
                if spec.objectives.rpo
                else []
            ),
            f"- missed slots: {MISSED[spec.missed]}",
            f"- digest: `{policy.digest[:12]}`",
            "",
            "A run by hand makes a recovery point of its own, outside the schedule, unless its form names a slot.",
            "",
            *(f"    {line}" for line in document.splitlines()),
        ]
    )


__all__ = ["PREFIX", "dag_id", "manners", "orphan_dag", "policy_dag"]
