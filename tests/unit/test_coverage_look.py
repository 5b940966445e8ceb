"""Looks at the coverage, one after another: each thing is told once when it begins and once when it ends, whoever could not be told is told later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.run_scenes import PASSWORD, Scene
from tests.unit.test_claims import a_claim

from becalm.actions import coverage_look
from becalm.actions.coverage_look import Looked
from becalm.actions.watch import Message
from becalm.catalog import coverage as catalog
from becalm.errors import AccessDenied, Conflict, Damaged
from becalm.policy.claims import StatelessClaim
from becalm.repository.format import Layout
from becalm.testing.builders import a_policy
from becalm.testing.objects import a_config_map, a_namespace


@dataclass
class Desk:
    """A scene, who was told what, and who cannot be."""

    scene: Scene = field(default_factory=Scene)
    sent: list[Message] = field(default_factory=list)
    deaf: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def send(self, message: Message) -> Mapping[str, str]:
        """Take a message, as far as those whom it is for can hear."""
        self.sent.append(message)
        return {name: why for name, why in self.deaf.items() if name in message.to}

    def look(self, *claims: StatelessClaim, alone: bool = True, notify: tuple[str, ...] = ("chat",), **spec: Any) -> Looked:
        """Look, an hour after the look before."""
        self.sent.clear()
        self.scene.clock.advance(timedelta(hours=1).total_seconds())
        return coverage_look.look(
            self.scene.cluster,
            [a_policy(**spec)],
            claims,
            lambda _: (self.scene.store, PASSWORD),
            alone=alone,
            notify=notify,
            send=self.send,
            clock=self.scene.clock,
            own="becalm",
            problem=self.problems.append,
        )

    def record(self) -> catalog.CoverageRecord:
        """Read what the looks left."""
        found, _ = catalog.load(self.scene.repository)
        assert found is not None
        return found


@pytest.fixture
def desk() -> Desk:
    """One whose cluster holds one setting, and no good recovery point of it."""
    made = Desk()
    made.scene.cluster.put(a_config_map("settings", "shop"))
    return made


def test_what_is_new_is_told_once_and_its_end_once(desk: Desk) -> None:
    """The look after says nothing; what is gone is over."""
    desk.look()
    begun = list(desk.sent)
    desk.look()
    again = list(desk.sent)
    desk.scene.cluster.remove("configmaps", "settings", "shop")
    desk.look()

    assert ([message.ended for message in begun], again, [message.ended for message in desk.sent]) == ([False], [], [True])
    assert "1 newly not covered" in begun[0].subject
    assert "configmaps/shop/settings" in begun[0].text
    assert (desk.record().open, desk.record().over, len(desk.record().looks)) == ((), (), 3)


def test_a_look_stands_in_the_record_with_its_figures(desk: Desk) -> None:
    """What is open keeps the time at which it was seen first."""
    desk.look()
    first = desk.record().open[0].since
    desk.look()
    record = desk.record()

    assert [(one.where, one.since, one.told) for one in record.open] == [("configmaps/shop/settings", first, ("chat",))]
    assert [(look.percent, look.arithmetic, look.missing, look.unknown) for look in record.looks] == [(0, "0 of 1 = 0 %", 1, 0)] * 2


def test_who_was_not_reached_is_told_at_the_next_look(desk: Desk) -> None:
    """And nobody who was reached is told twice."""
    desk.deaf["mail"] = "it is down"
    first = desk.look(notify=("chat", "mail"))
    desk.deaf.clear()
    desk.look(notify=("chat", "mail"))

    assert first.errors == ("mail was not told: it is down",)
    assert [message.to for message in desk.sent] == [("mail",)]


def test_nothing_is_over_while_something_cannot_be_read(desk: Desk) -> None:
    """It may only be out of sight."""
    desk.look()
    desk.scene.cluster.fail(AccessDenied("no right"), verb="list", kind="configmaps")
    looked = desk.look()

    assert (desk.sent, len(desk.record().open), desk.record().looks[-1].unknown) == ([], 1, len(looked.judged.findings))
    assert looked.judged.findings


def test_a_claim_that_has_run_out_is_open(desk: Desk) -> None:
    """It excuses nothing then, and is named first."""
    desk.scene.cluster.put(a_namespace("front"))
    desk.look(a_claim(confirmed="2026-03-10", validFor="1d"))

    assert [one.where for one in desk.record().open] == ["claim front", "configmaps/shop/settings"]
    assert desk.record().looks[0].claims == {"front": "expired"}


@pytest.mark.parametrize(("alone", "open_"), [(True, ["claim front", "configmaps/shop/settings"]), (False, ["configmaps/shop/settings"])])
def test_a_claim_may_speak_of_another_cluster(desk: Desk, alone: bool, open_: list[str]) -> None:
    """Where there are several, one that matches nothing here is no finding here."""
    desk.look(a_claim(confirmed="2026-03-10"), alone=alone)

    assert [one.where for one in desk.record().open] == open_


def test_a_point_of_the_same_selection_covers(desk: Desk) -> None:
    """By what the point itself says of its policy; of another selection it covers nothing, and the end is told."""
    saved = a_policy().model_dump(mode="json", by_alias=True, exclude_none=True)
    desk.scene.point(says={"complete": True, "missing": [], "policy": {"document": saved}})
    desk.look()
    covered = desk.record().open
    desk.look(select={"namespaces": ["shop", "till"]})

    assert covered == ()
    assert "selected otherwise" in desk.record().open[0].because


def test_a_point_that_says_nothing_of_its_policy_covers_nothing(desk: Desk) -> None:
    """And why it cannot be known is said."""
    desk.scene.point(says={"complete": True, "missing": []})
    desk.look()

    assert len(desk.record().open) == 1
    assert "what the last good point of shop was to hold cannot be read" in desk.problems[0]


def test_of_two_that_look_at_once_one_gives_way(desk: Desk) -> None:
    """It does not overwrite what the other wrote."""
    desk.look()
    record, etag = catalog.load(desk.scene.repository)
    assert record is not None
    desk.look()

    with pytest.raises(Conflict, match="meanwhile"):
        catalog.save(desk.scene.repository, record, etag)


def test_a_record_that_cannot_be_read_is_named(desk: Desk) -> None:
    """It is not begun anew: what was told would be lost."""
    desk.scene.store.put(Layout.COVERAGE, b"rubbish")

    with pytest.raises(Damaged):
        desk.look()
    assert desk.scene.store.get(Layout.COVERAGE) == b"rubbish"
