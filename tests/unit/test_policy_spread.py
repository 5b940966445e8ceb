"""Schedules that spread by themselves."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from becalm.errors import PolicyError
from becalm.policy.cron import Cron
from becalm.policy.load import load
from becalm.policy.spread import spread
from becalm.testing.builders import a_policy, a_policy_document

NAMES = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)


@given(NAMES, st.sampled_from(["H * * * *", "H H * * *", "H/15 * * * *", "5 H * * 1", "H/1 H/7 * * *"]))
def test_every_name_gets_a_schedule_that_holds(name: str, expression: str) -> None:
    """The same one each time."""
    made = spread(expression, name)

    assert Cron.parse(made).expression == made == spread(expression, name)
    assert "H" not in made


@pytest.mark.parametrize("expression", ["0 * * * *", "@hourly", "0 2 * * THU", ""])
def test_what_asks_for_nothing_stays_as_it_is(expression: str) -> None:
    """Names of days hold an H, too."""
    assert spread(expression, "shop") == expression


def test_policies_spread_over_the_hour() -> None:
    """Five hundred of them use nearly every minute, and none has more than its share by far."""
    minutes = [spread("H * * * *", f"app-{number}").split()[0] for number in range(500)]

    assert len(set(minutes)) > 55
    assert max(map(minutes.count, minutes)) < 25


def test_a_policy_holds_its_own_numbers() -> None:
    """Whoever reads its schedule reads plain cron."""
    assert a_policy(schedule="H * * * *").spec.schedule == spread("H * * * *", "shop")


@pytest.mark.parametrize("schedule", ["H/0 * * * *", "H/99 * * * *", "* * H * *", "H"])
def test_an_h_that_means_nothing_is_refused(schedule: str) -> None:
    """With its path, like every other mistake."""
    with pytest.raises(PolicyError) as refused:
        load(yaml.safe_dump(a_policy_document(schedule=schedule)), source="shop.yaml")

    assert "spec.schedule" in {finding.path for finding in refused.value.findings}
