"""The watch over the objectives: one event is one message, whoever looks; its end is told too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.run_scenes import Scene

from becalm.actions.objectives import WINDOW, Facts, status
from becalm.actions.watch import Message, TroubleKind, broken, troubles
from becalm.actions.watching import Looked, look, look_broken
from becalm.catalog import announced, epochs
from becalm.catalog.announced import Announced
from becalm.errors import StoreUnavailable
from becalm.repository.format import Layout
from becalm.storage.base import ObjectStore
from becalm.testing.builders import a_policy, hours
from becalm.testing.fake_clock import NOON
from becalm.testing.saved_points import PASSWORD


@dataclass
class Desk:
    """A scene, with those who are told and what they heard."""

    scene: Scene = field(default_factory=lambda: Scene(policy=a_policy(schedule="0 * * * *", objectives={"rpo": "2h"})))
    heard: list[tuple[str, str, bool]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    deaf: set[str] = field(default_factory=set)
    down: bool = False
    kept: dict[str, tuple[Announced, ...]] = field(default_factory=dict)
    notify: tuple[str, ...] = ("mail", "chat")

    def load(self, policy: str) -> tuple[Announced, ...]:
        """Return what no bucket can remember."""
        return self.kept.get(policy, ())

    def save(self, policy: str, found: tuple[Announced, ...]) -> None:
        """Remember it."""
        self.kept[policy] = found

    def send(self, message: Message) -> Mapping[str, str]:
        """Tell everybody who is not deaf."""
        self.heard += [(name, message.kind.value, message.ended) for name in message.to if name not in self.deaf]
        self.texts.append(f"{message.subject}\n{message.text}")
        return {name: "no answer" for name in message.to if name in self.deaf}

    def reach(self) -> tuple[ObjectStore, str]:
        """Open the bucket, unless it is down."""
        if self.down:
            raise StoreUnavailable("the bucket does not answer")
        return self.scene.store, PASSWORD

    def look(self) -> Looked:
        """Look after the policy once."""
        return look(self.scene.policy, self.reach, notify=self.notify, send=self.send, elsewhere=self, clock=self.scene.clock)


@pytest.fixture
def desk() -> Desk:
    made = Desk()
    made.look()
    made.scene.point(cut=NOON, slot=NOON)
    return made


def test_a_policy_that_is_well_is_no_news(desk: Desk) -> None:
    """Nothing is sent; since when it owes what is written down."""
    desk.look()

    assert desk.heard == []
    assert [epoch.schedule for epoch in epochs.epochs(desk.scene.store)] == ["0 * * * *"]


def test_what_never_ran_is_told_once_and_its_end_too(desk: Desk) -> None:
    """Each hears of the age and of the missed slots once, however often somebody looks; then that it is over."""
    desk.scene.clock.advance(3.5 * 3600)
    for _ in range(3):
        desk.look()
    begun = list(desk.heard)
    desk.scene.point(cut=desk.scene.clock.now(), slot=NOON + hours(3))
    for _ in range(3):
        desk.look()

    assert sorted(begun) == [(who, kind, False) for who in ("chat", "mail") for kind in ("missed", "rpo")]
    assert sorted(desk.heard[len(begun) :]) == [(who, kind, True) for who in ("chat", "mail") for kind in ("missed", "rpo")]
    assert announced.load(desk.scene.store)[0] == ()


def test_a_message_says_what_is_at_risk_since_when_and_what_to_do(desk: Desk) -> None:
    """In sentences that need no manual."""
    desk.scene.clock.advance(3.5 * 3600)
    desk.look()
    text = next(text for text in desk.texts if "too old" in text)

    assert "At risk: All that was written since 2026-03-14T12:00:00Z would be lost" in text
    assert "Since: 2026-03-14T14:00:00Z" in text
    assert "What to do: No run has ended since" in text


def test_who_was_not_reached_is_told_at_the_next_look(desk: Desk) -> None:
    """The others are not told twice, and who missed it is an error."""
    desk.scene.clock.advance(3.5 * 3600)
    desk.deaf = {"chat"}
    first = desk.look()
    desk.deaf = set()
    second = desk.look()

    assert sorted(first.errors) == ["missed was not told to chat: no answer", "rpo was not told to chat: no answer"]
    assert second.errors == ()
    assert sorted(desk.heard) == [(who, kind, False) for who in ("chat", "mail") for kind in ("missed", "rpo")]


def test_a_bucket_that_does_not_answer_is_told_and_hides_no_end(desk: Desk) -> None:
    """What was wrong before is not called well while nobody can know; after that it is."""
    desk.scene.clock.advance(3.5 * 3600)
    desk.look()
    desk.heard.clear()
    desk.down = True
    desk.look()
    desk.look()
    dark = list(desk.heard)
    desk.down = False
    desk.look()

    assert dark == [("mail", "unreachable", False), ("chat", "unreachable", False)]
    assert sorted(desk.heard[2:]) == [("chat", "unreachable", True), ("mail", "unreachable", True)]
    assert {one.kind for one in announced.load(desk.scene.store)[0]} == {"rpo", "missed"}


def test_a_failed_run_is_told_with_its_reasons(desk: Desk) -> None:
    """The history of runs is what it rests on."""
    begun = desk.scene.begin(run_after=NOON)
    desk.scene.finish(begun, failures=["task export: failed"])
    desk.look()

    assert {heard[1] for heard in desk.heard} == {"failed"}
    assert "task export: failed" in desk.texts[0]


def test_what_was_announced_and_cannot_be_read_is_announced_again(desk: Desk) -> None:
    """Rather twice than never."""
    desk.scene.clock.advance(3.5 * 3600)
    desk.look()
    desk.scene.store.put(Layout.ANNOUNCED, b"{")
    desk.look()

    assert desk.heard.count(("mail", "rpo", False)) == 2


def test_a_broken_policy_is_told_once_and_its_end_too() -> None:
    """Nothing is protected by it."""
    desk = Desk()
    trouble = broken("spec.schedule: no", now=NOON)
    for current in (trouble, trouble, None):
        look_broken("shop", current, notify=("mail",), send=desk.send, elsewhere=desk, now=NOON + timedelta(hours=1))

    assert desk.heard == [("mail", "broken", False), ("mail", "broken", True)]


def test_without_anybody_to_tell_nothing_is_sent(desk: Desk) -> None:
    """What is wrong still shows in how the policy stands."""
    desk.notify = ()
    desk.scene.clock.advance(3.5 * 3600)
    found = desk.look()

    assert (desk.heard, found.sent) == ([], ())
    assert found.status is not None
    assert found.status.met is False


def test_every_trouble_is_told_in_whole_sentences() -> None:
    """Each says what, the risk and the remedy."""
    facts: dict[str, Any] = {"now": NOON + WINDOW, "epochs": (epochs.Epoch(since=NOON, schedule="@daily"),)}
    found = troubles(status(a_policy(schedule="@daily", objectives={"rpo": "1d"}), Facts(**facts)))

    assert {trouble.kind for trouble in found} == {TroubleKind.RPO, TroubleKind.MISSED}
    assert all(sentence.endswith(".") for trouble in found for sentence in (trouble.what, trouble.risk, trouble.remedy))
