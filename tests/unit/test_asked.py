"""What a person asks of one run: read, checked, and followed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.actions.asked import NOTHING_ASKED, Asked, followed, read
from becalm.actions.handover import Begun, Trigger
from becalm.errors import UsageError
from becalm.testing.builders import NOON, a_policy


def begun(**asked: Any) -> Begun:
    return Begun(policy="shop", policy_digest="d", run_id="r", run="0123456789", trigger=Trigger.MANUAL, started=NOON, **asked)


@pytest.mark.parametrize(
    ("given_", "where"),
    [
        ({"note": "x" * 10_000}, "note"),
        ({"note": 7}, "note"),
        ({"note": "\x1b[2J"}, "note"),
        ({"label": "<script>"}, "label"),
        ({"label": "a" * 64}, "label"),
        ({"pin_days": -1}, "pin_days"),
        ({"pin_days": 1.5}, "pin_days"),
        ({"pin_days": True}, "pin_days"),
        ({"pin_days": "7"}, "pin_days"),
        ({"namespaces": "shop"}, "namespaces"),
        ({"namespaces": ["*"]}, "namespaces"),
        ({"namespaces": ["-a"]}, "namespaces"),
        ({"namespaces": [None]}, "namespaces"),
        ({"namespaces": {"a": 1}}, "namespaces"),
        ({"quiesce": "no"}, "quiesce"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_field(given_: dict[str, Any], where: str) -> None:
    """With what to write instead, and never with ten thousand characters."""
    with pytest.raises(UsageError) as refused:
        read(given_)

    assert refused.value.where == where
    assert refused.value.hint
    assert len(str(refused.value)) < 300


def test_nothing_said_is_nothing_asked() -> None:
    """Empty fields of a form are no wishes."""
    assert read({}) == read({"note": "", "label": None, "pin_days": 0, "namespaces": [], "quiesce": True}) == NOTHING_ASKED == Asked()


def test_some_namespaces_answer_no_slot() -> None:
    """The slot would be owed no longer, and half of it would be missing."""
    with pytest.raises(UsageError, match="cannot answer a slot"):
        read({"namespaces": ["shop"]}, slot=NOON)


@given(
    st.dictionaries(
        st.sampled_from(["note", "label", "pin_days", "namespaces", "quiesce"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=4
        ),
    )
)
def test_whatever_is_given_is_read_or_refused(given_: dict[str, Any]) -> None:
    """Never another error: the form, REST and the command line all end here."""
    try:
        found = read(given_)
    except UsageError:
        return

    assert isinstance(found, Asked)


def test_a_policy_is_followed_as_it_was_asked() -> None:
    """Only what is captured differs; the policy itself is untouched."""
    policy = a_policy(
        select={"namespaces": ["shop", "team-*"]},
        quiesce={"annotations": ["shop"], "hooks": [{"select": {"labels": "app=db"}, "command": {"freeze": ["/f"], "thaw": ["/t"]}}]},
    )
    narrowed = followed(policy, begun(namespaces=("team-a",), quiesce=False))

    assert narrowed.spec.select.namespaces == ("team-a",)
    assert (narrowed.spec.quiesce.hooks, narrowed.spec.quiesce.annotations) == ((), ())
    assert (narrowed.spec.target, narrowed.spec.retention) == (policy.spec.target, policy.spec.retention)
    assert followed(policy, begun()) is policy


def test_a_namespace_that_is_not_protected_is_refused() -> None:
    """A run by hand is no way around the policy."""
    with pytest.raises(UsageError, match="does not protect kube-system"):
        followed(a_policy(), begun(namespaces=("kube-system",)))
