"""Small whole nouns for tests: each builder takes only what the test is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from becalm.model import Consistency, RecoveryPoint
from becalm.policy.spec import ProtectionPolicy

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
"""The present of tests that do not care: a Monday, no daylight saving near."""


def days(count: float) -> timedelta:
    """Return a length of time in days."""
    return timedelta(days=count)


def hours(count: float) -> timedelta:
    """Return a length of time in hours."""
    return timedelta(hours=count)


def a_policy_document(*, name: str = "shop", **spec: Any) -> dict[str, Any]:
    """Return a policy as its file says it. `spec` replaces whole keys of the section of that name; None takes one away."""
    sections: dict[str, Any] = {
        "select": {"namespaces": ["shop"]},
        "target": {"url": "s3://backups/test", "password": "env:BECALM_PASSWORD"},
        **spec,
    }
    return {
        "apiVersion": "becalm.dev/v1",
        "kind": "ProtectionPolicy",
        "metadata": {"name": name},
        "spec": {key: value for key, value in sections.items() if value is not None},
    }


def a_policy(*, name: str = "shop", **spec: Any) -> ProtectionPolicy:
    """Return a policy, in the words of its file: `a_policy(retention={"daily": 7}, quiesce={"onFailure": "fail"})`."""
    return ProtectionPolicy.model_validate(a_policy_document(name=name, **spec))


def a_point(
    *,
    age: timedelta = timedelta(0),
    cut: datetime | None = None,
    policy: str = "shop",
    id: str = "",  # noqa: A002  (the noun's own word)
    slot: datetime | None = None,
    complete: bool = True,
    pinned: bool = False,
    locked_until: datetime | None = None,
    consistency: Consistency = Consistency.CRASH,
) -> RecoveryPoint:
    """Return a recovery point, cut `age` before noon, or at `cut`. Its id follows from what it says, if none is given."""
    moment = NOON - age if cut is None else cut
    said = f"{policy} {moment.isoformat()} {slot} {complete} {pinned} {locked_until}"
    return RecoveryPoint(
        id=id or sha256(said.encode()).hexdigest(),
        policy=policy,
        cut=moment,
        tree=sha256(b"tree of " + said.encode()).hexdigest(),
        slot=slot,
        late=max(timedelta(0), moment - slot) if slot else timedelta(0),
        complete=complete,
        pinned=pinned,
        locked_until=locked_until,
        consistency=consistency,
    )
