"""One operator for each task of a policy. Each opens its ports, calls one verb, and hands over a small versioned document.

An operator holds the policy's name, digest and file, never the policy: it is loaded when the task runs. A policy that was
changed or removed since its run began ends that run with an error, but never keeps `thaw` and `finish` from their work:
these two follow the policy as it was when the run began.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from becalm.actions.asked import followed
from becalm.actions.handover import Application, Begun, Cut, Discovered, FreezeRecord, Ports
from becalm.airflow.connections import variable
from becalm.airflow.failures import airflow_failures, demand_moved, pod_failures, say
from becalm.airflow.form import read_form, trigger_of
from becalm.airflow.handed import DISCOVERED, EXPORTED, GROUP, POLICY, RETURN, SKIPPED, VERDICT, Handed
from becalm.airflow.links import PointLink
from becalm.airflow.story import begins, moved
from becalm.airflow.task import ApplicationOperator, BecalmOperator, demand, go_on
from becalm.errors import BecalmError, MoverFailed, PermanentError, PolicyError
from becalm.model import MoverResult, MoverSpec, Payload, from_payload, payload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow.sdk import Context

    from becalm.policy.spec import ProtectionPolicy


class BeginOperator(BecalmOperator):
    """Open the repository, decide the slot, take the lease."""

    def act(self, context: Context, handed: Handed) -> Payload:
        """Begin, or skip the run where its slot is answered already."""
        from becalm.actions import run  # noqa: PLC0415  (a parse imports no engine)

        started: Any = context["dag_run"]
        slot, asked = read_form(started.conf or {}, dict(context["params"]), started.run_after)
        policy = self.load_policy()
        begun = run.begin(
            policy,
            run_id=started.run_id,
            trigger=trigger_of(started.run_type),
            run_after=started.run_after,
            slot=slot,
            asked=asked,
            ports=self.open_ports(policy),
        )
        handed.push(POLICY, policy.model_dump(mode="json", by_alias=True, exclude_none=True))
        if begun.skipped:
            handed.push(RETURN, payload(begun))
            handed.push(SKIPPED, begun.skipped)
            say(f"nothing to do: {begun.skipped}; every other task of this run is skipped")
            raise AirflowSkipException(begun.skipped)
        for line in begins(begun):
            say(line)
        return payload(begun)


class DiscoverOperator(BecalmOperator):
    """Resolve the selection."""

    tells_time = True

    def act(self, context: Context, handed: Handed) -> list[Payload]:  # noqa: ARG002  (one signature for all)
        """Return the applications, for the group to be mapped over."""
        from becalm.actions import discover  # noqa: PLC0415  (a parse imports no engine)

        begun = demand(handed.begun())
        policy = followed(self.load_policy(begun), begun)
        ports = self.open_ports(policy)
        discovered: Discovered = discover.execute(policy, ports)
        handed.push(DISCOVERED, payload(discovered))
        self._tell(policy, discovered, ports)
        return [payload(application) for application in discovered.applications]

    def _tell(self, policy: ProtectionPolicy, discovered: Discovered, ports: Ports) -> None:
        """Write into the log what `becalm plan` says. What it cannot say stops no backup."""
        from becalm.actions import outlook  # noqa: PLC0415  (a parse imports no engine)
        from becalm.policy.environments import load_beside  # noqa: PLC0415  (as above)

        named = variable("BECALM_ENVIRONMENTS")
        try:
            limits = load_beside(Path(self.policy_file), named=Path(named) if named else None).limits(policy.spec.environment)
            for sentence in outlook.sentences(outlook.execute(policy, ports, limits=limits, discovered=discovered)):
                say(sentence)
        except BecalmError as error:
            say(f"what this run will do could not be told: {error}")


class QuiesceOperator(ApplicationOperator):
    """Arm the switch, then freeze."""

    def protect(self, application: Application, handed: Handed, begun: Begun) -> Payload:  # noqa: ARG002  (one signature for all)
        """Return when each container was confirmed frozen."""
        from becalm.actions import quiesce  # noqa: PLC0415  (a parse imports no engine)

        policy = followed(self.load_policy(begun), begun)
        return payload(quiesce.execute(application, begun, policy, self.open_ports(policy)))


class SnapshotOperator(ApplicationOperator):
    """Cut the volumes, thaw at once, list the objects at the same revision."""

    def protect(self, application: Application, handed: Handed, begun: Begun) -> Payload:
        """Return the cut."""
        from becalm.actions import snapshot  # noqa: PLC0415  (a parse imports no engine)

        record = demand(handed.here(FreezeRecord, f"{GROUP}.quiesce"), what="quiesce handed nothing over")
        policy = followed(self.load_policy(begun), begun)
        return payload(snapshot.execute(application, record, begun, policy, self.open_ports(policy)))


class ThawOperator(ApplicationOperator):
    """Make sure of the thaw, and decide the label."""

    def protect(self, application: Application, handed: Handed, begun: Begun) -> Payload:
        """Return what is known of the thaw. The policy is the one that froze."""
        from becalm.actions import quiesce  # noqa: PLC0415  (a parse imports no engine)

        record = demand(handed.here(FreezeRecord, f"{GROUP}.quiesce"), what="quiesce handed nothing over")
        cut = handed.here(Cut, f"{GROUP}.snapshot")
        policy = handed.policy() or self.load_policy(begun)
        return payload(quiesce.thaw(application, record, cut, begun, policy, self.open_ports(policy)))


class ExportOperator(BecalmOperator):
    """Make the cuts readable, and describe a mover for each."""

    tells_time = True

    def act(self, context: Context, handed: Handed) -> list[Payload]:  # noqa: ARG002  (one signature for all)
        """Return the movers' specifications, for the uploads to be mapped over. It runs whatever became of single applications."""
        from becalm.actions import export, upload  # noqa: PLC0415  (a parse imports no engine)

        begun = go_on(handed)
        cuts = handed.cuts()
        if not cuts:
            raise PermanentError("no application was cut", where=f"run {begun.run_id}", hint="see the tasks of the group protect")
        policy = self.load_policy(begun)
        ports = self.open_ports(policy)
        exports = export.execute(cuts, begun, policy, ports)
        handed.push(EXPORTED, [payload(exported) for exported in exports])
        return [payload(spec) for spec in upload.prepare(exports, begun, policy, ports)]


class UploadOperator(BecalmOperator):
    """Run one mover pod by the Kubernetes provider, without a worker that waits.

    The provider's operator is made anew in each process that needs it: before the deferral, after it, and to end the pod. It
    finds its pod again by what Airflow keeps for this task, and by its labels. Its trigger calls `trigger_reentry` on us.
    """

    def __init__(self, *, spec: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.spec = spec
        self._pod: Any = None

    def act(self, context: Context, handed: Handed) -> Payload:
        """Start the pod, or take up the one that runs, and wait elsewhere. What was moved already is not moved again."""
        ports = self._prepare(context, handed)
        done = self._result(ports)
        return payload(done) if not done.error else self._move(ports, lambda: self._pod.execute_async(context))

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Payload:
        """Go on when the trigger has seen something: the end, or that it is time for the logs. The name is the provider's."""
        with airflow_failures():
            ports = self._prepare(context, Handed(context))
            return self._move(ports, lambda: self._pod.trigger_reentry(context, event))

    def on_kill(self) -> None:
        """End the pod."""
        if self._pod is not None:
            self._pod.on_kill()

    def _prepare(self, context: Context, handed: Handed) -> Ports:
        from becalm.airflow.movers import pod_operator  # noqa: PLC0415  (the provider takes seconds to import)

        spec = from_payload(MoverSpec, self.spec)
        context["volume"] = str(spec.volume)  # type: ignore[typeddict-unknown-key]  # what map_index_template reads
        policy = self.load_policy(demand(handed.begun()))
        ports = self.open_ports(policy)
        self._pod = pod_operator(self, spec, connection=policy.spec.cluster, policy=policy.name, settings=ports.settings)
        return ports

    def _result(self, ports: Ports) -> MoverResult:
        from becalm.actions import upload  # noqa: PLC0415  (a parse imports no engine)

        return upload.collect([from_payload(MoverSpec, self.spec)], ports)[0]

    def _move(self, ports: Ports, step: Callable[[], Any]) -> Payload:
        """Take one step with the pod; it leaves by a deferral until the pod has ended. What counts then is the result in the bucket."""
        failed: MoverFailed | None = None
        try:
            with pod_failures(str(from_payload(MoverSpec, self.spec).volume)):
                step()
        except MoverFailed as error:
            failed = error
        result = demand_moved(self._result(ports), pod=failed)
        say(moved(result))
        return payload(result)


class CommitOperator(BecalmOperator):
    """Join, check, and write the one snapshot object."""

    tells_time = True
    operator_extra_links = (PointLink(),)

    def act(self, context: Context, handed: Handed) -> Payload:  # noqa: ARG002  (one signature for all)
        """Return the recovery point. It runs whatever became of single applications and volumes."""
        from becalm.actions import commit, upload  # noqa: PLC0415  (a parse imports no engine)

        begun = go_on(handed)
        discovered, cuts = demand(handed.discovered(), what="nothing was discovered"), handed.cuts()
        if not cuts:
            raise PermanentError("there is nothing to commit", where=f"run {begun.run_id}", hint="see the tasks before this one")
        policy = self.load_policy(begun)
        ports = self.open_ports(policy)
        committed = commit.execute(
            begun,
            discovered=discovered,
            cuts=cuts,
            thaws=handed.thaws(),
            exports=handed.exports(),
            results=upload.collect(handed.specs(), ports),
            policy=policy,
            ports=ports,
        )
        say(commit.report(committed))
        self.point = committed.point
        return payload(committed)


class PruneOperator(BecalmOperator):
    """Forget what no rule keeps."""

    tells_time = True

    def act(self, context: Context, handed: Handed) -> Payload:  # noqa: ARG002  (one signature for all)
        """Return what stayed and what went, each with its reasons."""
        from becalm.actions import prune  # noqa: PLC0415  (a parse imports no engine)

        begun = demand(handed.begun())
        policy = self.load_policy(begun)
        pruned = prune.execute(begun, policy, self.open_ports(policy))
        say(
            f"retention: {pruned.kept} points stay, {len(pruned.forgotten)} go; {pruned.deleted} packs, {pruned.deleted_bytes} bytes reclaimed"
        )
        return payload(pruned)


class FinishOperator(BecalmOperator):
    """Leave nothing behind, and give the verdict."""

    operator_extra_links = (PointLink(),)

    def act(self, context: Context, handed: Handed) -> Payload:  # noqa: ARG002  (one signature for all)
        """Return the verdict, or fail with every reason. The policy is the one that the run began with."""
        from becalm.actions import run  # noqa: PLC0415  (a parse imports no engine)

        begun, discovered = demand(handed.begun()), handed.discovered()
        policy = handed.policy() or self.load_policy(begun)
        verdict = run.finish(
            begun,
            applications=discovered.applications if discovered else (),
            records=handed.records(),
            cuts=handed.cuts(),
            thaws=handed.thaws(),
            committed=handed.committed(),
            failures=handed.failures(),
            tasks=handed.seconds(),
            policy=policy,
            ports=self.open_ports(policy),
        )
        handed.push(VERDICT, payload(verdict))
        self.point = verdict.point
        say(f"verdict: {'well' if verdict.ok else 'not well: ' + '; '.join(verdict.reasons)}")
        return payload(run.demand(verdict))


class PolicyErrorOperator(BaseOperator):
    """Fail with what is wrong with a policy, so that whatever watches failed runs says so."""

    template_fields: Sequence[str] = ()

    def __init__(self, *, problem: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.problem = problem

    def execute(self, context: Context) -> None:  # noqa: ARG002  (Airflow's signature)
        """Fail at once."""
        with airflow_failures():
            raise PolicyError(self.problem)


OPERATORS: dict[str, type[BecalmOperator]] = {
    "begin": BeginOperator,
    "discover": DiscoverOperator,
    "quiesce": QuiesceOperator,
    "snapshot": SnapshotOperator,
    "thaw": ThawOperator,
    "export": ExportOperator,
    "upload": UploadOperator,
    "commit": CommitOperator,
    "prune": PruneOperator,
    "finish": FinishOperator,
}
"""The operator of each task of a policy."""
