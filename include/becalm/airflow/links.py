"""From a task to its recovery point in the console: a button on the task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

CONSOLE = "/becalm"
"""Where the console stands, below Airflow's own address."""


def point_address(policy: str, point: str) -> str:
    """Return the address of a recovery point's page; without a point, that of the policy's points."""
    return f"{CONSOLE}/policies/{policy}/points" + (f"/{point}" if point else "")


class PointLink(BaseOperatorLink):
    """The page of the recovery point that a task wrote, or read back."""

    name = "Recovery point"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002  (Airflow's signature)
        """Return the address. The task has noted its point by then; one that wrote none leads to the policy's list."""
        return point_address(getattr(operator, "policy_name", ""), getattr(operator, "point", ""))
