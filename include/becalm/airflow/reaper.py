"""The DAG that leaves nothing behind: every few minutes it thaws what dead runs may have left frozen, and removes what they left.

One task looks after all policies, one after the other's trouble or not: a policy whose bucket or cluster does not answer is named at
the end, and keeps no other from being looked after.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable

from becalm.airflow.connections import ports_for
from becalm.airflow.dag import OWNER, manners
from becalm.airflow.failures import airflow_failures, say
from becalm.errors import BecalmError, PermanentError
from becalm.model import payload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from becalm.actions.handover import Ports
    from becalm.actions.reap import Reaped
    from becalm.model import Payload
    from becalm.policy.spec import ProtectionPolicy

REAPER_ID = "becalm_reaper"
SCHEDULE = "*/5 * * * *"
SIDE_BY_SIDE = 8


def reaper_dag(*, folder: Path) -> DAG:
    """Return the DAG. Its policies are read when it runs."""
    with DAG(
        REAPER_ID,
        description="Thaws and removes what dead runs left",
        doc_md=__doc__,
        schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC"),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        default_args={"owner": OWNER},
        tags=["becalm", "reaper"],
    ) as dag:
        ReapOperator(task_id="reap", folder=str(folder), **manners("reap"))
    return dag


@dataclass(frozen=True, slots=True)
class _Charge:
    """One policy with its ports, and the runs that have left something in its cluster."""

    policy: ProtectionPolicy
    ports: Ports
    left: Mapping[str, frozenset[str]]


class ReapOperator(BaseOperator):
    """Look after every policy of the folder."""

    template_fields: Sequence[str] = ()

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = folder

    def execute(self, context: Context) -> list[Payload]:  # noqa: ARG002  (Airflow's signature)
        """Return what was done for each policy; what may be frozen still, and a policy that cannot be looked after, is an error."""
        with airflow_failures():
            return self.act()

    def act(self) -> list[Payload]:
        """Do it, with Becalm's own errors."""
        from becalm.actions import reap  # noqa: PLC0415  (a parse imports no engine)

        failed: list[str] = []
        charges = self._charges(failed)
        with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE, thread_name_prefix="reap") as pool:
            answers = list(pool.map(_reap, charges))
        done = [answer for answer in answers if not isinstance(answer, str)]
        failed += [answer for answer in answers if isinstance(answer, str)]
        reap.demand(done)
        if failed:
            raise PermanentError("; ".join(failed), where=REAPER_ID, hint="the other policies were looked after")
        return [payload(item) for item in done]

    def _charges(self, failed: list[str]) -> list[_Charge]:
        """Open each sound policy. A broken file has a DAG of its own that says so."""
        from becalm.actions import sweep  # noqa: PLC0415  (a parse imports no engine)
        from becalm.policy.load import load_folder  # noqa: PLC0415  (only a task reads policies here)

        surveys: dict[str, Mapping[str, frozenset[str]]] = {}
        found: list[_Charge] = []
        for path, policy in load_folder(Path(self.folder)).items():
            if isinstance(policy, Exception):
                say(f"{path.name} cannot be followed, so nothing is looked after by it")
                continue
            try:
                ports = ports_for(policy, progress=say)
                if policy.spec.cluster not in surveys:
                    surveys[policy.spec.cluster] = sweep.survey(ports)
                found.append(_Charge(policy, ports, surveys[policy.spec.cluster]))
            except BecalmError as error:
                failed.append(f"{policy.name}: {error}")
        return found


def _reap(charge: _Charge) -> Reaped | str:
    """Look after one policy; return what was done, or why it could not be."""
    from becalm.actions import reap  # noqa: PLC0415  (as above)

    try:
        decided = reap.plan(charge.policy, charge.ports, left=charge.left)
        for line in reap.told(decided):
            say(f"{charge.policy.name}: {line}")
        done = reap.execute(decided, charge.policy, charge.ports)
    except BecalmError as error:
        return f"{charge.policy.name}: {error}"
    for finding in done.findings:
        say(f"{charge.policy.name}: {finding}")
    return done
