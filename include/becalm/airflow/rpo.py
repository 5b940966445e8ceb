"""The DAG that watches the objectives: every few minutes it reads how old the last good recovery point of each policy is, and says so.

It asks the bucket and never the runs, so that what never ran is noticed too. One event is one message; its end is told as well. Who is told
stands in the policy (`alerts.notify`), or in BECALM_NOTIFY. A watcher outside Airflow has the same figures: `becalm metrics serve`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Variable

from becalm.airflow import notices
from becalm.airflow.connections import read_password, store_access
from becalm.airflow.dag import OWNER, manners
from becalm.airflow.failures import airflow_failures, say
from becalm.clock import SystemClock
from becalm.errors import Damaged, PermanentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from becalm.actions.watching import Looked
    from becalm.catalog.announced import Announced
    from becalm.policy.spec import ProtectionPolicy
    from becalm.storage.base import ObjectStore

RPO_ID = "becalm_rpo"
SCHEDULE = "2-59/5 * * * *"
SIDE_BY_SIDE = 8
VARIABLE = "becalm_announced_"
"""An Airflow variable for each policy whose bucket cannot be read, or whose file cannot be followed."""


def rpo_dag(*, folder: Path) -> DAG:
    """Return the DAG. Its policies are read when it runs."""
    with DAG(
        RPO_ID,
        dag_display_name="Becalm: objectives",
        description="Watches the age of the last good recovery points",
        doc_md=__doc__,
        schedule=CronTriggerTimetable(SCHEDULE, timezone="UTC"),
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        default_args={"owner": OWNER},
        tags=["becalm", "objectives"],
    ) as dag:
        WatchOperator(task_id="watch", folder=str(folder), **manners("watch"))
    return dag


def open_catalog(policy: ProtectionPolicy) -> tuple[ObjectStore, str]:
    """Open a policy's bucket and read its password; the cluster is not asked. Raises NotFound, UsageError, and what the store raises."""
    from becalm.storage import open_store  # noqa: PLC0415  (a parse must not import boto3)

    target = policy.spec.target
    credentials = {} if target.url.startswith("file:") else store_access(target.connection).ours
    url, lock = target.repository_url(policy.name), target.lock
    return open_store(url, credentials, lock=lock.mode.value if lock else "", clock=SystemClock()), read_password(target.password)


class InVariables:
    """The memory of what was announced where no bucket can keep it: Airflow's variables."""

    def load(self, policy: str) -> tuple[Announced, ...]:
        """Return what was announced; what cannot be read counts as nothing."""
        from becalm.catalog import announced  # noqa: PLC0415  (a parse imports no engine)

        text = str(Variable.get(VARIABLE + policy, default="") or "")
        try:
            return announced.decode(text.encode(), where=f"variable {VARIABLE}{policy}") if text else ()
        except Damaged:
            return ()

    def save(self, policy: str, found: tuple[Announced, ...]) -> None:
        """Remember what was announced."""
        from becalm.catalog import announced  # noqa: PLC0415  (a parse imports no engine)

        Variable.set(VARIABLE + policy, announced.encode(found).decode() if found else "", description="Becalm: what was announced")


class WatchOperator(BaseOperator):
    """Look after the objectives of every policy of the folder."""

    template_fields: Sequence[str] = ()

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.folder = folder

    def execute(self, context: Context) -> list[dict[str, str]]:  # noqa: ARG002  (Airflow's signature)
        """Return how each policy stands; who could not be told is an error, after all was done."""
        with airflow_failures():
            return self.act()

    def act(self) -> list[dict[str, str]]:
        """Do it, with Becalm's own errors."""
        from becalm.actions.objectives import told  # noqa: PLC0415  (a parse imports no engine)

        looked = self._look()
        for one in looked:
            say(f"{one.policy}: {told(one.status) if one.status else 'the policy cannot be followed'}")
            for message in one.sent:
                say(f"{one.policy}: told {', '.join(message.to)}: {message.subject}")
        errors = [f"{one.policy}: {error}" for one in looked for error in one.errors]
        if errors:
            raise PermanentError("; ".join(errors), where=RPO_ID, hint="see the connections that are named; the next look tries again")
        return [{"policy": one.policy, "level": one.status.level.value if one.status else "trouble"} for one in looked]

    def _look(self) -> list[Looked]:
        from becalm.actions.watch import broken  # noqa: PLC0415  (as above)
        from becalm.actions.watching import look_broken  # noqa: PLC0415  (as above)
        from becalm.policy.load import load_folder  # noqa: PLC0415  (only a task reads policies here)

        memory, now = InVariables(), SystemClock().now()
        sound: list[ProtectionPolicy] = []
        done: list[Looked] = []
        for path, found in load_folder(Path(self.folder)).items():
            if isinstance(found, Exception):
                trouble = broken(str(found), now=now)
                done.append(look_broken(path.stem, trouble, notify=notices.recipients(None), send=notices.send, elsewhere=memory, now=now))
            else:
                sound.append(found)
        with ThreadPoolExecutor(max_workers=SIDE_BY_SIDE, thread_name_prefix="watch") as pool:
            return [*done, *pool.map(_attend, sound)]


def _attend(policy: ProtectionPolicy) -> Looked:
    from becalm.actions.watching import look  # noqa: PLC0415  (a parse imports no engine)

    return look(
        policy,
        lambda: open_catalog(policy),
        notify=notices.recipients(policy),
        send=notices.send,
        elsewhere=InVariables(),
        clock=SystemClock(),
    )


__all__ = ["RPO_ID", "open_catalog", "rpo_dag"]
