"""The DAG that asks again and again whether there is state that nobody saves: every day, over all policies and claims of the folder.

It reads each cluster whole, remembers in one bucket of it what is open and since when, and tells what is new and what is over. That state is
not covered fails no task: it is what the task is to find out. What could not be looked at does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable

from becalm.airflow import notices
from becalm.airflow.connections import cluster_access, connect_cluster, variable
from becalm.airflow.dag import OWNER, manners
from becalm.airflow.failures import airflow_failures, say
from becalm.airflow.rpo import open_catalog
from becalm.clock import SystemClock
from becalm.errors import BecalmError, PermanentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from becalm.policy.claims import StatelessClaim
    from becalm.policy.spec import ProtectionPolicy

COVERAGE_ID = "becalm_coverage"
SCHEDULE = "23 5 * * *"


def coverage_dag(*, folder: Path) -> DAG:
    """Return the DAG. Its policies and claims are read when it runs."""
    with DAG(
        COVERAGE_ID,
        dag_display_name="Becalm: coverage",
        description="Finds state that no policy covers, and claims that do not hold",
        doc_md=__doc__,
        schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC"),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        default_args={"owner": OWNER},
        tags=["becalm", "coverage"],
    ) as dag:
        CoverageOperator(task_id="audit", folder=str(folder), **manners("audit"))
    return dag


class CoverageOperator(BaseOperator):
    """Look at the coverage of every cluster of the folder's policies."""

    template_fields: Sequence[str] = ()

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = folder

    def execute(self, context: Context) -> dict[str, str]:  # noqa: ARG002  (Airflow's signature)
        """Return the score of each cluster, with its arithmetic."""
        with airflow_failures():
            return self.act()

    def act(self) -> dict[str, str]:
        """Do it, with Becalm's own errors. A cluster or a bucket that does not answer keeps no other cluster from being looked at."""
        failed: list[str] = []
        policies, claims = self._policies(), self._claims(failed)
        done: dict[str, str] = {}
        for cluster, of_it in policies.items():
            try:
                done[cluster] = _look(of_it, claims, failed, alone=len(policies) == 1)
            except BecalmError as error:
                failed.append(f"cluster {cluster}: {error}")
        if failed:
            raise PermanentError("; ".join(failed), where=COVERAGE_ID, hint="what else there is was looked at")
        return done

    def _policies(self) -> dict[str, list[ProtectionPolicy]]:
        """Return the sound policies of each cluster, by name. A broken file has a DAG of its own that says so."""
        from becalm.policy.load import load_folder  # noqa: PLC0415  (only a task reads policies here)

        found: dict[str, list[ProtectionPolicy]] = {}
        for path, policy in load_folder(Path(self.folder)).items():
            if isinstance(policy, Exception):
                say(f"{path.name} cannot be followed, so nothing is covered by it")
            else:
                found.setdefault(policy.spec.cluster, []).append(policy)
        return {cluster: sorted(found[cluster], key=lambda policy: policy.name) for cluster in sorted(found)}

    def _claims(self, failed: list[str]) -> list[StatelessClaim]:
        from becalm.policy.claims import load_folder  # noqa: PLC0415  (as above)

        answers = load_folder(Path(self.folder))
        failed += [f"{path.name}: {answer}" for path, answer in answers.items() if isinstance(answer, Exception)]
        return [answer for answer in answers.values() if not isinstance(answer, Exception)]


def _look(policies: list[ProtectionPolicy], claims: list[StatelessClaim], failed: list[str], *, alone: bool) -> str:
    from becalm.actions import coverage_look  # noqa: PLC0415  (a parse imports no engine)
    from becalm.actions.coverage import MISSING  # noqa: PLC0415  (as above)

    cluster, clock = policies[0].spec.cluster, SystemClock()
    named = dict.fromkeys(name for policy in policies for name in policy.spec.alerts.notify)
    done = coverage_look.look(
        connect_cluster(cluster_access(cluster), clock),
        policies,
        claims,
        open_catalog,
        alone=alone,
        notify=tuple(named) or notices.recipients(None),
        send=notices.send,
        clock=clock,
        own=variable("BECALM_NAMESPACE") or "becalm",
        problem=say,
    )
    say(f"cluster {cluster}: {done.judged.score}")
    for item in done.judged.items:
        if item.verdict in MISSING:
            say(f"{item.verdict}: {item.state.where}: {item.because}")
    for finding in done.judged.findings:
        say(f"not known: {finding}")
    for message in done.sent:
        say(f"told {', '.join(message.to)}: {message.subject}")
    failed += [f"cluster {cluster}: {error}" for error in done.errors]
    return str(done.judged.score)


__all__ = ["COVERAGE_ID", "CoverageOperator", "coverage_dag"]
