"""What a policy can say of restores by Airflow: who says yes to a plan before it is carried out.

Part of `spec`, which passes its names on. The command line asks the person at the terminal, and does not read this.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from becalm.policy.fields import Duration, Word  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.policy.section import Section


class Approval(StrEnum):
    """Whether a person says yes to the plan of a restore."""

    REQUIRED = "required"
    """Always. The form cannot switch it off."""
    OPTIONAL = "optional"
    """Unless the form says otherwise."""
    NEVER = "never"
    """Only where the form asks for it."""


class Restore(Section):
    """How Airflow restores this policy's recovery points."""

    approval: Approval | None = Field(
        default=None,
        description="Whether a person approves the plan: `required`, `optional` (the form of a restore can switch it off) or `never`. "
        "If left out: `never` in the environment `test`, else `required`.",
    )
    approvers: tuple[Word, ...] = Field(
        default=(), description="Airflow users who may approve, by the ids of its auth manager. Whoever may edit the run, if left out."
    )
    approval_timeout: Duration = Field(
        default=timedelta(days=1),
        description="How long a plan waits for its approval. After that the restore has failed, and nothing was changed.",
    )
