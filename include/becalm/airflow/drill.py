"""Drills as DAGs: begin ─▶ restore ─▶ check ─▶ finish, for each policy with a section `drill` on that section's schedule, and one by hand for any.

`begin` and `finish` are setup and teardown: what was restored goes whatever happens, and where Airflow does not come to that, the
reaper does it. `finish` gives the verdict; a drill that did not prove its point is a failed run, and an alert of its policy.
"""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Param
from airflow.serialization.serialized_objects import DagSerialization

from becalm.airflow import broken
from becalm.airflow.connections import ports_for
from becalm.airflow.dag import manners
from becalm.airflow.failures import airflow_failures, say
from becalm.airflow.handed import FINE
from becalm.errors import PermanentError, PolicyError, UsageError
from becalm.model import from_payload, payload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from becalm.actions.drill_steps import DrillPlan
    from becalm.actions.handover import Ports
    from becalm.model import Payload
    from becalm.policy.spec import ProtectionPolicy

DRILL_ID = "becalm_drill"
PREFIX = "becalm_drill_"
FIELDS = ("policy", "point", "keep")
STEPS = ("begin", "restore", "check", "finish")

T = TypeVar("T")


def drill_id(policy: str) -> str:
    """Return the id of the DAG that drills a policy on its schedule."""
    return PREFIX + policy


def drill_dags(folder: Path, only: str | None = None) -> dict[str, DAG]:
    """Return the DAGs of a folder by their ids: all of them, or the one that a starting task needs. A broken policy has none here."""
    from becalm.policy.load import load_folder  # noqa: PLC0415  (only a parse reads policies)

    if only == DRILL_ID:
        return {only: drill_dag(None, names=(), folder=folder)}
    if only is not None:
        from becalm.airflow.loader import find_policy  # noqa: PLC0415  (as above)

        found = find_policy(folder, only.removeprefix(PREFIX)) if only.startswith(PREFIX) else None
        return {only: drill_dag(found[1], names=(), folder=folder)} if found else {}
    try:
        policies = [policy for policy in load_folder(folder).values() if not isinstance(policy, Exception)]
    except PolicyError:
        policies = []  # the DAG of that folder says so
    made = {DRILL_ID: drill_dag(None, names=sorted(policy.name for policy in policies), folder=folder)}
    for policy in policies:
        if policy.spec.drill is not None:
            made[drill_id(policy.name)] = _tried(policy, folder)
    return made


def _tried(policy: ProtectionPolicy, folder: Path) -> DAG:
    """Return the DAG of one policy. That it can be stored is tried here: one that cannot would stop every DAG of the file."""
    try:
        made = drill_dag(policy, names=(), folder=folder)
        DagSerialization.to_dict(made)
    except Exception as error:  # noqa: BLE001  (as said)
        return broken.policy_error_dag(f"drill_{policy.name}", error)
    return made


def params(policy: str, names: Sequence[str]) -> dict[str, Param]:
    """Return the form. With a policy there is none to choose."""
    chosen: dict[str, Any] = {"enum": list(names)} if names else {"minLength": 1}
    kind = "string" if policy or names else ["null", "string"]
    which = {} if policy else {"policy": Param(names[0] if names else None, type=kind, title="Policy", **chosen)}
    return {
        **which,
        "point": Param(
            "latest",
            type="string",
            minLength=1,
            title="Recovery point",
            description="latest, an id or its beginning, a time (2026-01-31T14:00:00Z), or words like “2 weeks ago”",
        ),
        "keep": Param(
            default=False,
            type="boolean",
            title="Keep what was restored",
            description="For a day, to look at it. The reaper removes it then.",
        ),
    }


def drill_dag(policy: ProtectionPolicy | None, *, names: Sequence[str], folder: Path) -> DAG:
    """Return the DAG that drills a policy, or the one by hand for any of `names`."""
    drill = policy.spec.drill if policy else None
    timetable = None
    if policy and drill and drill.schedule:
        timetable = CronTriggerTimetable(drill.schedule, timezone=policy.spec.timezone, run_immediately=timedelta(0))
    name = policy.name if policy else ""
    with DAG(
        drill_id(name) if name else DRILL_ID,
        description=f"Proves recovery points of {name}" if name else "Proves a recovery point of a policy, by hand",
        doc_md=__doc__,
        schedule=timetable,
        catchup=False,
        max_active_runs=1 if name else 4,
        tags=["becalm", "drill"],
    ) as dag:
        tasks: list[Any] = [
            OPERATORS[step](task_id=step, policy_name=name, folder=str(folder), **manners(f"drill.{step}")) for step in STEPS
        ]
        begin, restore, check, finish = tasks
        begin.as_setup() >> restore >> check >> finish.as_teardown(setups=begin, on_failure_fail_dagrun=True)
    dag.params.update(params(name, names))  # last, so that no task holds a copy: Airflow would check every one at each parse
    return dag


class DrillTask(BaseOperator):
    """What the tasks share: the policy, by the DAG or by the form, its ports with movers, and the plan that `begin` made."""

    template_fields: Sequence[str] = ()
    ui_color = "#e9e4f5"

    def __init__(self, *, policy_name: str, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.policy_name = policy_name
        self.folder = folder

    def execute(self, context: Context) -> Any:
        """Do this task's part."""
        with airflow_failures():
            return self.act(context)

    @abstractmethod
    def act(self, context: Context) -> Payload:
        """Do this task's part, with Becalm's own errors."""

    def policy(self, context: Context) -> ProtectionPolicy:
        """Return the policy. Raises UsageError: there is none of that name, or the form says what nobody knows."""
        from becalm.airflow.loader import find_policy  # noqa: PLC0415  (only a task reads a policy)

        started: Any = context["dag_run"]
        unknown = sorted(set(started.conf or {}) - set(FIELDS))
        if unknown:
            raise UsageError(f"a drill does not know {', '.join(unknown)}", where="the run's configuration", hint=f"it knows {FIELDS}")
        name = self.policy_name or str(context["params"].get("policy") or "")
        found = find_policy(Path(self.folder), name)
        if found is None:
            raise UsageError(f"there is no policy {name!r}", where=self.folder, hint="put its file back, or choose another")
        return found[1]

    def ports(self, context: Context) -> Ports:
        """Open the outer world."""
        return ports_for(self.policy(context), progress=say, with_movers=True)

    def planned(self, context: Context) -> DrillPlan:
        """Return what `begin` planned. Raises PermanentError where it did not come to its end."""
        from becalm.actions.drill_steps import DrillPlan as Plan  # noqa: PLC0415  (a parse imports no engine)

        found = self.handed(context, Plan, "begin")
        if found is None:
            raise PermanentError("the drill did not begin", hint="see the task begin; the reaper removes what it may have made")
        return found

    @staticmethod
    def handed(context: Context, noun: type[T], task: str) -> T | None:
        """Return what an earlier task handed over, or nothing."""
        ti: Any = context["ti"]
        document = ti.xcom_pull(task_ids=task, map_indexes=-1)
        return from_payload(noun, document) if document else None


class BeginOperator(DrillTask):
    """Choose the point, and make the closed namespaces."""

    def act(self, context: Context) -> Payload:
        """Return the plan."""
        from becalm.actions import drill  # noqa: PLC0415  (a parse imports no engine)

        asked, started = dict(context["params"]), context["dag_run"]
        decided = drill.begin(
            self.policy(context),
            self.ports(context),
            run_id=str(started.run_id),
            point=str(asked.get("point") or "latest"),
            keep=bool(asked.get("keep")),
        )
        return payload(decided)


class RestoreOperator(DrillTask):
    """Restore into them, and compare with what was saved."""

    def act(self, context: Context) -> Payload:
        """Return what was restored; what was not is an error, once it is handed over."""
        from becalm.actions import drill  # noqa: PLC0415  (a parse imports no engine)

        done = drill.restore_point(self.planned(context), self.ports(context))
        say(f"{done.objects} objects and {done.volumes} volumes are as in the recovery point, restored in {done.seconds:.0f} s")
        return _hand_over(context, payload(done), [str(one) for one in done.failures])


class CheckOperator(DrillTask):
    """Wait until all is ready, and run the policy's checks."""

    def act(self, context: Context) -> Payload:
        """Return what was found; what is wrong is an error, once it is handed over."""
        from becalm.actions import drill  # noqa: PLC0415  (a parse imports no engine)

        seen = drill.look(self.planned(context), self.ports(context))
        for check in seen.checks:
            say(f"{check.name} in {check.where}: {'succeeded' if check.ok else check.reason}")
        failed = [f"{check.name} in {check.where}: {check.reason}" for check in seen.checks if not check.ok]
        return _hand_over(context, payload(seen), [*(str(one) for one in (*seen.unready, *seen.failures)), *failed])


class FinishOperator(DrillTask):
    """Clean up, write the report, give the verdict."""

    def act(self, context: Context) -> Payload:
        """Return the report, or fail with every reason."""
        from becalm.actions import drill  # noqa: PLC0415  (a parse imports no engine)
        from becalm.actions.drill_steps import Checked, Restored  # noqa: PLC0415  (as above)
        from becalm.model import Finding  # noqa: PLC0415  (as above)

        restored, checked = self.handed(context, Restored, "restore"), self.handed(context, Checked, "check")
        silent = {"restore": restored is None, "check": checked is None and restored is not None and not restored.failures}
        failures = [
            Finding(where=f"task {task}", message=f"ended as {state}", remedy="see its log")
            for task, state in self._states(context).items()
            if silent.get(task) and state not in FINE
        ]
        report = drill.finish(self.planned(context), restored, checked, self.ports(context), failures=failures)
        say(f"drill {report.id}: {'proven' if report.ok else 'not proven'}" + (f", kept {', '.join(report.kept)}" if report.kept else ""))
        context["ti"].xcom_push(key="report", value=payload(report))
        return payload(drill.demand(report))

    def _states(self, context: Context) -> Mapping[str, str]:
        ti, run = context["ti"], context["dag_run"].run_id
        found = ti.get_task_states(dag_id=ti.dag_id, run_ids=[run]).get(run, {})
        return {task: str(state or "not run") for task, state in found.items()}


def _hand_over(context: Context, document: Payload, wrong: Sequence[str]) -> Payload:
    """Return a result, or hand it over and raise PermanentError with what is wrong: the verdict reads it all the same."""
    if not wrong:
        return document
    context["ti"].xcom_push(key="return_value", value=document)
    raise PermanentError("; ".join(wrong), hint="the task finish cleans up and writes the report")


OPERATORS: dict[str, type[DrillTask]] = {
    "begin": BeginOperator,
    "restore": RestoreOperator,
    "check": CheckOperator,
    "finish": FinishOperator,
}
