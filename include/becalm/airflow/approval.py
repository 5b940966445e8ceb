"""The approval of a restore's plan by a person, with Airflow's own operator. Only the DAG of restores imports this.

It shows the plan that the task before it made, and waits without a worker. Who said yes, and when, is handed on with the digest of what they
saw; a plan that nobody approved in its time, or that somebody rejected, ends the run as failed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.exceptions import (  # noqa: TID253  (this module is imported by one DAG only)
    HITLRejectException,
    HITLTimeoutError,
)
from airflow.providers.standard.operators.hitl import ApprovalOperator  # noqa: TID253  (as above)
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from becalm.airflow.failures import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

PLAN = "plan"
WAITS = timedelta(days=1)
"""How long a plan waits where its policy says nothing else."""


class ApproveOperator(ApprovalOperator):
    """Ask for a yes to the plan, where it takes one."""

    template_fields: Sequence[str] = ()
    ui_color = "#f7ecd0"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(subject="Approve this restore?", body="", fail_on_reject=True, response_timeout=WAITS, **kwargs)

    def execute(self, context: Context) -> Any:
        """Wait for a person; return at once where none is asked."""
        ti: Any = context["ti"]
        told = ti.xcom_pull(task_ids=PLAN, map_indexes=-1)
        if not told["acts"]:
            raise AirflowSkipException("only the plan was asked for; trigger it again with dry_run: false")
        if not told["asks"]:
            say("nobody is asked: the policy and the form say so")
            return {"digest": told["digest"], "approved_by": "", "approved": None}
        self.subject = told["subject"]
        self.body = ti.xcom_pull(task_ids=PLAN, key="shown", map_indexes=-1)
        self.assigned_users = [{"id": name, "name": name} for name in told["approvers"]] or None
        self.response_timeout = timedelta(seconds=told["timeout_seconds"])
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return who approved what, and when. Raises AirflowFailException: it was rejected, or nobody answered in time."""
        ti: Any = context["ti"]
        told = ti.xcom_pull(task_ids=PLAN, map_indexes=-1)
        try:
            answer = super().execute_complete(context, event)
        except HITLTimeoutError:
            raise AirflowFailException("nobody approved the plan in its time, and nothing was changed") from None
        except HITLRejectException:
            raise AirflowFailException(f"{_who(event)} rejected the plan, and nothing was changed") from None
        who = _who(event)
        say(f"{who} approved the plan {told['digest'][:12]}")
        return {"digest": told["digest"], "approved_by": who, "approved": answer["responded_at"].isoformat()}


def _who(event: dict[str, Any]) -> str:
    """Return a person's name and id, as Airflow knows them."""
    user = event.get("responded_by_user") or {}
    name, who = (user.get("name"), user.get("id")) if isinstance(user, dict) else (getattr(user, "name", ""), getattr(user, "id", ""))
    return f"{name} ({who})" if name and who and name != who else str(name or who or "somebody")
