"""The DAG that restores a recovery point, by a form: plan ─▶ approve ─▶ claims ─▶ restore[volume] ─▶ objects ─▶ verify ─▶ finish.

`plan` shows what would happen and keeps the plan, `approve` waits for a person where the policy asks for one. Then exactly that plan is carried
out: first what volumes are filled in, then each volume as a task of its own, then the rest, workloads last. `verify` compares what is there with
what was saved. `finish` writes the report and gives the turn back, whatever happened.

A run ends after the plan, unless its form says `dry_run: false`. Restores into different namespaces run side by side; two into the same one do not.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from becalm.airflow import restore_form
from becalm.airflow.connections import ports_for
from becalm.airflow.dag import manners
from becalm.airflow.failures import airflow_failures, say
from becalm.airflow.restore_form import ACTS, APPROVAL
from becalm.clock import parse_time
from becalm.errors import PermanentError, UsageError
from becalm.model import from_payload, payload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from airflow.sdk import Context

    from becalm.actions.handover import Ports
    from becalm.actions.restore_request import RestoreRequest
    from becalm.actions.restore_steps import RestorePlan
    from becalm.model import Payload
    from becalm.policy.spec import ProtectionPolicy

RESTORE_ID = "becalm_restore"
PLAN, APPROVE, CLAIMS, RESTORE, OBJECTS, VERIFY, FINISH = "plan", "approve", "claims", "restore", "objects", "verify", "finish"
MOST_SHOWN = 400
"""So many lines of a plan are shown to who approves it; the log of `plan` has all."""


def restore_dag(policies: Sequence[str], *, folder: Path) -> DAG:
    """Return the DAG. `policies` are offered in its form."""
    from becalm.airflow.approval import ApproveOperator  # noqa: PLC0415  (only this DAG asks people)

    with DAG(
        RESTORE_ID,
        description="Restores a recovery point, as its plan says",
        doc_md=__doc__,
        schedule=None,
        catchup=False,
        max_active_runs=16,
        params=restore_form.params(policies),
        tags=["becalm", "restore"],
    ) as dag:
        where = {"folder": str(folder)}
        plan = PlanOperator(task_id=PLAN, **where, **manners("plan"))
        approve = ApproveOperator(task_id=APPROVE, **manners("approve"))
        claims: Any = ClaimsOperator(task_id=CLAIMS, **where, **manners("claims"))
        restore = FillOperator.partial(task_id=RESTORE, map_index_template="{{ volume | default('') }}", **where, **manners("fill")).expand(
            target=claims.output
        )
        # A volume that was not filled withholds the workloads of its namespace, and no others: `objects` sees to that.
        objects = ObjectsOperator(task_id=OBJECTS, trigger_rule="all_done", **where, **manners("objects"))
        verify = VerifyOperator(task_id=VERIFY, **where, **manners("verify"))
        finish = FinishOperator(task_id=FINISH, **where, **manners("finish"))
        plan >> approve >> claims.as_setup() >> restore >> objects >> verify
        verify >> finish.as_teardown(setups=claims, on_failure_fail_dagrun=True)
    return dag


class RestoreTask(BaseOperator):
    """What the tasks share: the request of the form, and ports with movers."""

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

    def policy(self, name: str) -> ProtectionPolicy:
        """Return a policy. Raises UsageError: its file is gone."""
        from pathlib import Path  # noqa: PLC0415  (only a task reads a policy)

        from becalm.airflow.loader import find_policy  # noqa: PLC0415  (the loader imports Airflow's serialisation)

        found = find_policy(Path(self.folder), name)
        if found is None:
            hint = "put its file back, or use `becalm restore --target`, which needs none"
            raise UsageError(f"there is no policy {name} any more", where=self.folder, hint=hint)
        return found[1]

    def open(self, context: Context, *, point: str = "") -> tuple[RestoreRequest, Ports]:
        """Read the form, with the recovery point that the plan pinned. Raises UsageError."""
        started: Any = context["dag_run"]
        request = restore_form.request_of(dict(context["params"]), dict(started.conf or {}), point=point)
        return request, ports_for(self.policy(request.policy), progress=say, with_movers=True)

    def approved(self, context: Context) -> tuple[RestorePlan, RestoreRequest, Ports]:
        """Return exactly the plan that was shown. Raises AirflowSkipException (only a plan was asked for), PermanentError (nobody approved it)."""
        from becalm.actions import restore_phases  # noqa: PLC0415  (a parse imports no engine)

        told, answer = pulled(context, PLAN), pulled(context, APPROVE)
        if not told:
            raise PermanentError("there is no plan", hint="see the task plan")
        if not told["acts"]:
            raise AirflowSkipException("only the plan was asked for; trigger it again with dry_run: false")
        if not answer or answer["digest"] != told["digest"]:
            raise PermanentError("this plan was not approved", hint="see the task approve; nothing is done without it")
        request, ports = self.open(context, point=told["point"])
        return restore_phases.kept(told["run"], told["digest"], ports), request, ports


def pulled(context: Context, task: str, key: str = "return_value") -> Any:
    """Return what an earlier task handed over, or nothing."""
    ti: Any = context["ti"]
    return ti.xcom_pull(task_ids=task, key=key, map_indexes=-1)


class PlanOperator(RestoreTask):
    """Say what would happen, and keep the plan. Nothing in the cluster is changed."""

    def act(self, context: Context) -> Payload:
        """Return what stands for the plan. Raises RestoreRefused where it cannot be carried out."""
        from becalm.actions import restore, restore_phases  # noqa: PLC0415  (a parse imports no engine)

        request, ports = self.open(context)
        policy, acts = self.policy(request.policy), not context["params"][ACTS]
        asks = restore_form.asks(policy, str(context["params"][APPROVAL]))
        plan = restore.prepare(request, ports)
        for line in lines(plan):
            say(line)
        context["ti"].xcom_push(key="shown", value=shown(plan))
        restore.demand(plan)
        pinned = request.model_copy(update={"point": plan.point})
        asked_for = policy.spec.restore
        return {
            "acts": acts,
            "asks": asks and not plan.changes_nothing,
            "approvers": list(asked_for.approvers),
            "timeout_seconds": asked_for.approval_timeout.total_seconds(),
            "subject": f"Restore {plan.policy}, recovery point {plan.point[:8]} of {plan.cut:%Y-%m-%d %H:%M} UTC?",
            "digest": restore_phases.keep(plan, pinned, ports) if acts else "",
            "run": restore.restore_run(plan, pinned),
            "policy": plan.policy,
            "point": plan.point,
        }


class ClaimsOperator(RestoreTask):
    """Take the turn, and make what volumes are filled in."""

    def act(self, context: Context) -> list[str]:
        """Return the claims that are to be filled, for the next tasks to be mapped over."""
        from becalm.actions import restore_phases, restore_record, restore_turn  # noqa: PLC0415  (a parse imports no engine)

        plan, request, ports = self.approved(context)
        begun = restore_record.begun(
            plan,
            request,
            run=pulled(context, PLAN)["run"],
            cluster=ports.settings.cluster_name,
            started=began(context),
            asked_by=asked_by(context),
            approved_by=pulled(context, APPROVE)["approved_by"],
        )
        for finding in restore_record.save(begun, ports):
            say(str(finding))
        if not restore_turn.take(places(plan), pulled(context, PLAN)["run"], ports):
            say(f"there is no namespace {ports.settings.namespace}, so nothing keeps another restore out of the same place")
        try:
            failures = restore_phases.lay(plan, request, ports)
        except BaseException:
            restore_turn.give(places(plan), pulled(context, PLAN)["run"], ports)  # a second try takes it again
            raise
        for failure in failures:
            say(f"failed: {failure}")
        refused = {failure.where for failure in failures}
        return [target for target in restore_phases.to_fill(plan) if f"persistentvolumeclaims/{target}" not in refused]


class FillOperator(RestoreTask):
    """Fill one volume, before anything mounts it."""

    def __init__(self, *, target: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target

    def act(self, context: Context) -> Payload:
        """Return what the mover did; a volume that was not filled is an error."""
        from becalm.actions import restore_phases, restore_turn  # noqa: PLC0415  (a parse imports no engine)

        context["volume"] = self.target  # type: ignore[typeddict-unknown-key]  # what map_index_template reads
        plan, request, ports = self.approved(context)
        restore_turn.take(places(plan), pulled(context, PLAN)["run"], ports)
        done = restore_phases.fill_one(plan, request, self.target, ports)
        say(f"{self.target}: {done.files} files, {done.bytes_total} bytes in {done.seconds:.0f} s")
        return payload(done)


class ObjectsOperator(RestoreTask):
    """Carry out the rest of the plan, workloads last. A second try takes up what the first one left."""

    def act(self, context: Context) -> Payload:
        """Return the report; anything that was not done is an error, once it is handed over."""
        from becalm.actions import restore, restore_turn  # noqa: PLC0415  (a parse imports no engine)

        plan, request, ports = self.approved(context)
        if pulled(context, CLAIMS) is None:
            raise PermanentError("the claims were not made, or it was not this restore's turn", hint="see the task claims")
        restore_turn.take(places(plan), pulled(context, PLAN)["run"], ports)
        report = restore.execute(plan, request, ports)
        say(f"{report.created} objects created, {report.kept} kept, {len(report.volumes)} volumes filled in {report.seconds:.0f} s")
        context["ti"].xcom_push(key="report", value=payload(report))
        restore.demand_success(report)
        return payload(report)


class VerifyOperator(RestoreTask):
    """Compare what is there with what was saved."""

    def act(self, context: Context) -> Payload:
        """Return what was compared; anything that differs is an error, once it is handed over."""
        from becalm.actions import restore  # noqa: PLC0415  (a parse imports no engine)

        plan, request, ports = self.approved(context)
        found = restore.verify(plan, request, ports)
        say(f"{found.objects} objects and {found.volumes} volumes are as in the recovery point")
        context["ti"].xcom_push(key="found", value=payload(found))
        restore.demand_success(found)
        return payload(found)


class FinishOperator(RestoreTask):
    """Write the report, give the turn back, and fail where anything was not done."""

    def act(self, context: Context) -> Payload:
        """Return the report's id and whether it went well; it says who asked, who approved and when, and what was done."""
        from becalm.actions import restore_phases, restore_record, restore_turn  # noqa: PLC0415  (a parse imports no engine)
        from becalm.actions.restore import RestoreReport, Verification  # noqa: PLC0415  (as above)

        plan, request, ports = self.approved(context)
        told, answer = pulled(context, PLAN), pulled(context, APPROVE)
        done, found = pulled(context, OBJECTS, "report"), pulled(context, VERIFY, "found")
        report = from_payload(RestoreReport, done) if done else RestoreReport(policy=plan.policy, point=plan.point, run=told["run"])
        made = restore_record.record(
            plan,
            request,
            report,
            from_payload(Verification, found) if found else None,
            cluster=ports.settings.cluster_name,
            started=began(context),
            ended=ports.clock.now(),
            asked_by=asked_by(context),
            approved_by=answer["approved_by"],
            approved=parse_time(answer["approved"]) if answer["approved"] else None,
        )
        for finding in restore_record.save(made, ports):
            say(str(finding))
        restore_turn.give(places(plan), told["run"], ports)
        if not made.ok:
            raise PermanentError(
                f"the restore {made.id} did not end as planned",
                hint="see the tasks before this one; restore again: what is done already is kept",
            )
        restore_phases.forget(told["run"], told["digest"], ports)
        return {"report": made.id, "ok": made.ok}


def began(context: Context) -> datetime:
    """Return when the run began: the same for each of its tasks and their tries, so that its reports share a name."""
    run: Any = context["dag_run"]
    moment: datetime = run.start_date or run.run_after
    return moment


def asked_by(context: Context) -> str:
    """Return who triggered the run, or nothing."""
    return str(getattr(context["dag_run"], "triggering_user_name", None) or "")


def places(plan: RestorePlan) -> frozenset[str]:
    """Return the namespaces that a plan writes into."""
    named = {step.target.namespace for step in plan.steps if step.action not in {"keep", "skip"} and step.target.namespace}
    return frozenset(named | {volume.target.namespace for volume in plan.volumes if volume.action != "keep"})


def lines(plan: RestorePlan) -> Iterator[str]:
    """Say a plan line by line: the point, each object and volume with its action and reason, and what differs."""
    yield f"recovery point {plan.point[:8]} of {plan.cut.isoformat()}, {plan.consistency}" + ("" if plan.complete else ", partial")
    for step in plan.steps:
        yield f"{step.action:7} {step.target}: {step.reason}"
        yield from (f"          {change}" for change in step.changes)
    for volume in plan.volumes:
        yield f"{volume.action:7} volumes/{volume.target}: {volume.reason}"
    yield from (f"note    {finding}" for finding in plan.findings)


def shown(plan: RestorePlan) -> str:
    """Return a plan for who approves it, in Markdown: what is done first, what stays last, and no value of any field. Pure.

    What it says comes from a recovery point: it stands in a block of code, and nothing in it can end that.
    """
    counted: dict[str, int] = {}
    for step in plan.steps:
        counted[str(step.action)] = counted.get(str(step.action), 0) + 1
    size = sum(volume.size_bytes for volume in plan.volumes if volume.action not in {"keep", "empty"})
    acting = [step for step in plan.steps if step.action not in {"keep", "skip"}]
    rows = [
        *(f"{volume.action} volumes/{volume.target}: {volume.reason} ({volume.size_bytes} bytes)" for volume in plan.volumes),
        *(f"{step.action} {step.target}: {step.reason}{_paths(step.changes)}" for step in acting),
        *(f"note {finding}" for finding in plan.findings),
        *(f"forbidden {finding}" for finding in plan.blocking),
        *(f"{step.action} {step.target}: {step.reason}" for step in plan.steps if step not in acting),
    ]
    left = [f"… and {len(rows) - MOST_SHOWN} more: see the log of the task plan"] if len(rows) > MOST_SHOWN else []
    head = [
        f"Recovery point `{plan.point[:16]}` of policy `{plan.policy}`, cut {plan.cut.isoformat()}, {plan.consistency}"
        + ("" if plan.complete else ", **partial: something is missing in it**"),
        "",
        f"{', '.join(f'{count} to {action}' for action, count in counted.items())}; {size} bytes of data.",
        "",
    ]
    return "\n".join([*head, *(f"    {_plain(row)}" for row in (*rows[:MOST_SHOWN], *left))]) + "\n"


def _paths(changes: Sequence[Any]) -> str:
    return f" [{', '.join(str(change.path) for change in changes[:8])}{', …' if len(changes) > 8 else ''}]" if changes else ""


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
