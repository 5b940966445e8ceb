"""What the earlier tasks of a run handed over, read back as nouns. It only reads; what is not there is nothing, not an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from becalm.actions.handover import Application, Begun, Committed, Cut, Discovered, Exported, FreezeRecord, Thawed
from becalm.model import MoverResult, MoverSpec, from_payload

if TYPE_CHECKING:
    from airflow.sdk import Context

    from becalm.policy.spec import ProtectionPolicy

T = TypeVar("T")

RETURN = "return_value"
"""The key of what a task returns."""
POLICY, DISCOVERED, EXPORTED, VERDICT, SECONDS = "policy", "discovered", "exported", "verdict", "seconds"
"""Keys of what tasks hand over beside it."""
SKIPPED = "skipped"
"""Under this key `begin` says why there is nothing to do: it stands among the XComs of the task that the grid shows as skipped."""

TIMED = ("discover", "export", "commit", "prune")
"""Tasks that hand over how long they took."""

GROUP = "protect"
FINE = frozenset({"success", "skipped", "removed"})
"""States of a task in which nothing went wrong."""


class Handed:
    """The documents of one run."""

    def __init__(self, context: Context) -> None:
        """Read from the run that this context belongs to."""
        self._context: Any = context
        self._ti: Any = context["ti"]

    def begun(self) -> Begun | None:
        """Return the run that holds the lease; nothing where `begin` did not come to its end."""
        return self._one(Begun, "begin")

    def policy(self) -> ProtectionPolicy | None:
        """Return the policy as it was when the run began."""
        from becalm.policy.spec import ProtectionPolicy  # noqa: PLC0415  (only tasks read it back)

        document = self._pull("begin", POLICY)
        return ProtectionPolicy.model_validate(document) if document else None

    def discovered(self) -> Discovered | None:
        """Return the selection, resolved."""
        return self._one(Discovered, "discover", DISCOVERED)

    def records(self) -> list[FreezeRecord]:
        """Return what was done to each application that was quiesced."""
        return self._many(FreezeRecord, f"{GROUP}.quiesce")

    def cuts(self) -> list[Cut]:
        """Return every application that was cut."""
        return self._many(Cut, f"{GROUP}.snapshot")

    def thaws(self) -> list[Thawed]:
        """Return every application of which the thaw is known."""
        return self._many(Thawed, f"{GROUP}.thaw")

    def exports(self) -> list[Exported]:
        """Return every volume that was exported, or why not."""
        return [from_payload(Exported, document) for document in self._pull("export", EXPORTED) or []]

    def specs(self) -> list[MoverSpec]:
        """Return what the movers were told."""
        return [from_payload(MoverSpec, document) for document in self._pull("export", RETURN) or []]

    def committed(self) -> Committed | None:
        """Return the recovery point, if one was written."""
        return self._one(Committed, "commit")

    def here(self, noun: type[T], task: str) -> T | None:
        """Return what a task handed over for the same application as this task's."""
        document = self._ti.xcom_pull(task_ids=task, map_indexes=self._ti.map_index)
        return from_payload(noun, document) if document else None

    def seconds(self) -> dict[str, float]:
        """Return how long each task took that told it, and the longest upload."""
        found = {task: told for task in TIMED if isinstance(told := self._pull(task, SECONDS), (int, float))}
        uploads = [result.seconds for result in self._many(MoverResult, "upload")]
        return {**found, **({"upload": max(uploads)} if uploads else {})}

    def push(self, key: str, document: object) -> None:
        """Hand a document over beside what the task returns."""
        self._ti.xcom_push(key=key, value=document)

    def failures(self) -> list[str]:
        """Say of every other task of the run that did not end well how it ended."""
        run = self._context["dag_run"].run_id
        states = self._ti.get_task_states(dag_id=self._ti.dag_id, run_ids=[run]).get(run, {})
        own = self._ti.task_id
        return [f"task {task}: {state or 'not run'}" for task, state in sorted(states.items()) if task != own and str(state) not in FINE]

    def _pull(self, task: str, key: str) -> Any:
        return self._ti.xcom_pull(task_ids=task, key=key, map_indexes=-1)

    def _one(self, noun: type[T], task: str, key: str = RETURN) -> T | None:
        document = self._pull(task, key)
        return from_payload(noun, document) if document else None

    def _many(self, noun: type[T], task: str) -> list[T]:
        found = self._ti.xcom_pull(task_ids=task)
        documents = found if isinstance(found, list) else [found]
        return [from_payload(noun, document) for document in documents if document]


__all__ = ["DISCOVERED", "EXPORTED", "GROUP", "POLICY", "RETURN", "SECONDS", "SKIPPED", "VERDICT", "Application", "Handed"]
