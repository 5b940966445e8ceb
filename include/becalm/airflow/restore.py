"""The DAG that restores a recovery point, by a form: plan ─▶ restore ─▶ verify.

`plan` prints what would happen. `restore` carries out exactly that plan, and `verify` compares what is there with what was
saved. A run ends after the plan, unless its form says `dry_run: false`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, Param
from airflow.sdk.exceptions import AirflowSkipException

from becalm.airflow.connections import ports_for
from becalm.airflow.dag import manners
from becalm.airflow.failures import airflow_failures, say
from becalm.errors import UsageError
from becalm.model import from_payload, payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from airflow.sdk import Context

    from becalm.actions.handover import Ports
    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_steps import RestorePlan
    from becalm.model import Payload

RESTORE_ID = "becalm_restore"
ACTS = "dry_run"


def _names(title: str, description: str) -> Param:
    return Param([], type=["array", "null"], items={"type": "string", "minLength": 1}, title=title, description=description)


def params(policies: Sequence[str]) -> dict[str, Param]:
    """Return the form. A field is called as the restore request calls it."""
    policy: dict[str, Any] = {"enum": list(policies)} if policies else {"minLength": 1}
    return {
        "policy": Param(policies[0] if policies else None, type="string" if policies else ["null", "string"], title="Policy", **policy),
        "point": Param(
            "latest", type="string", minLength=1, title="Recovery point", description="latest, an id, a time, or words like “2 weeks ago”"
        ),
        "namespaces": _names("Namespaces", "Only these, as the recovery point names them. Empty: all."),
        "kinds": _names("Kinds", "Only these: secrets, Deployment, *.cert-manager.io. Empty: all."),
        "objects": _names("Objects", "These objects: v1/Secret/shop/tls"),
        "volumes": _names("Volumes", "These volumes: shop/data"),
        "namespace_mapping": Param(
            {}, type=["object", "null"], title="Under another name", description='From the old namespace to the new: {"shop": "shop2"}'
        ),
        "conflict": Param(
            "skip", enum=["skip", "fail"], title="Where something differs", description="skip keeps what is there, fail refuses the restore"
        ),
        ACTS: Param(default=True, type="boolean", title="Only plan", description="Print what would happen, and change nothing."),
    }


def restore_dag(policies: Sequence[str], *, folder: Path) -> DAG:
    """Return the DAG. `policies` are offered in its form."""
    with DAG(
        RESTORE_ID,
        description="Restores a recovery point, as its plan says",
        doc_md=__doc__,
        schedule=None,
        catchup=False,
        max_active_runs=4,
        params=params(policies),
        tags=["becalm", "restore"],
    ) as dag:
        plan, restore, verify = (
            cls(task_id=name, folder=str(folder), **manners(name))
            for name, cls in (("plan", PlanOperator), ("restore", RestoreOperator), ("verify", VerifyOperator))
        )
        plan >> restore >> verify
    return dag


class RestoreTask(BaseOperator):
    """What the three tasks share: the request of the form, and ports with movers."""

    template_fields: Sequence[str] = ()

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = folder

    def execute(self, context: Context) -> Any:
        """Do this task's part."""
        with airflow_failures():
            return self.act(context)

    @abstractmethod
    def act(self, context: Context) -> Any:
        """Do this task's part, with Becalm's own errors."""

    def open(self, context: Context, *, point: str = "") -> tuple[RestoreRequest, Ports]:
        """Read the form, with the recovery point that the plan pinned. Raises UsageError."""
        from becalm.actions.restore_request import RestoreRequest  # noqa: PLC0415  (a parse imports no engine)

        started: Any = context["dag_run"]
        given: dict[str, Any] = dict(context["params"])
        unknown = sorted(set(started.conf or {}) - set(params(())))
        if unknown:
            raise UsageError(f"a restore does not know {', '.join(unknown)}", where="the run's configuration")
        asked = {key: value for key, value in given.items() if key != ACTS and value not in (None, "", [])}
        request = RestoreRequest.read({**asked, **({"point": point} if point else {})})
        return request, ports_for(self._policy(request.policy), progress=say, with_movers=True)

    def _policy(self, name: str) -> Any:
        from pathlib import Path  # noqa: PLC0415  (only a task reads a policy)

        from becalm.airflow.loader import find_policy  # noqa: PLC0415  (the loader imports Airflow's serialisation)

        found = find_policy(Path(self.folder), name)
        if found is None:
            hint = "put its file back, or use `becalm restore --target`, which needs none"
            raise UsageError(f"there is no policy {name} any more", where=self.folder, hint=hint)
        return found[1]


class PlanOperator(RestoreTask):
    """Say what would happen. Nothing is changed."""

    def act(self, context: Context) -> Payload:
        """Return the plan, for exactly it to be carried out. Raises RestoreRefused where it cannot be."""
        from becalm.actions import restore  # noqa: PLC0415  (a parse imports no engine)

        request, ports = self.open(context)
        plan = restore.prepare(request, ports)
        for line in lines(plan):
            say(line)
        restore.demand(plan)
        return payload(replace(plan, steps=tuple(replace(step, changes=()) for step in plan.steps)))


class RestoreOperator(RestoreTask):
    """Carry the plan out. A second try takes up what the first one left."""

    def act(self, context: Context) -> Payload:
        """Return the report; anything that was not done is an error."""
        from becalm.actions import restore  # noqa: PLC0415  (a parse imports no engine)

        if context["params"][ACTS]:
            raise AirflowSkipException("only the plan was asked for; trigger it again with dry_run: false")
        plan = planned(context)
        request, ports = self.open(context, point=plan.point)
        report = restore.execute(plan, request, ports)
        say(f"{report.created} objects created, {report.kept} kept, {len(report.volumes)} volumes filled in {report.seconds:.0f} s")
        restore.demand_success(report)
        return payload(report)


class VerifyOperator(RestoreTask):
    """Compare what is there with what was saved."""

    def act(self, context: Context) -> Payload:
        """Return what was compared; anything that differs is an error."""
        from becalm.actions import restore  # noqa: PLC0415  (a parse imports no engine)

        plan = planned(context)
        request, ports = self.open(context, point=plan.point)
        found = restore.verify(plan, request, ports)
        say(f"{found.objects} objects and {found.volumes} volumes are as in the recovery point")
        restore.demand_success(found)
        return payload(found)


def planned(context: Context) -> RestorePlan:
    """Return the plan that was made and shown."""
    from becalm.actions.restore_steps import RestorePlan as Plan  # noqa: PLC0415  (a parse imports no engine)

    ti: Any = context["ti"]
    return from_payload(Plan, ti.xcom_pull(task_ids="plan", map_indexes=-1))


def lines(plan: RestorePlan) -> Iterator[str]:
    """Say a plan line by line: the point, each object and volume with its action and reason, and what differs."""
    yield f"recovery point {plan.point[:8]} of {plan.cut.isoformat()}, {plan.consistency}" + ("" if plan.complete else ", partial")
    for step in plan.steps:
        yield f"{step.action:7} {step.target}: {step.reason}"
        yield from (f"          {change}" for change in step.changes)
    for volume in plan.volumes:
        yield f"{volume.action:7} volumes/{volume.target}: {volume.reason}"
    yield from (f"note    {finding}" for finding in plan.findings)
