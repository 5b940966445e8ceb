"""What a policy can say of alerts: who is told, and how long a run may take.

Part of `spec`, which passes its names on. What an alert says is not decided here.
"""

from __future__ import annotations

from pydantic import Field

from becalm.policy.fields import ConnectionName, Duration  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.policy.section import Section


class Alerts(Section):
    """Who is told when something is wrong."""

    notify: tuple[ConnectionName, ...] = Field(
        default=(),
        description="Airflow connections that are told, of type `smtp` (with `to` among its extra), `slackwebhook` or `http` (a webhook). "
        "Those that BECALM_NOTIFY names, if left out.",
    )
    deadline: Duration | None = Field(
        default=None,
        description="How long a run may take from the moment it is queued before this is told. As long as objectives.rpo, if left out.",
    )
