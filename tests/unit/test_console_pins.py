"""Pins from the console: who may, what the ledger holds, and what a page of somebody else's cannot do."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from tests.unit.console_scenes import Scene, a_console

from becalm.airflow.console.points import pinned_until
from becalm.catalog import ledger
from becalm.catalog.pins import pins
from becalm.errors import UsageError
from becalm.repository.reader import open_repository
from becalm.testing.builders import NOON
from becalm.testing.saved_points import PASSWORD


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A console of one's own."""
    with a_console() as made:
        yield made


def post(
    scene: Scene, role: str = "user", *, token: str | None = None, origin: str = "http://console.test", **fields: str
) -> httpx.Response:
    """Post the form of the point's page as a browser would."""
    if token is None:
        found = re.search(r'name="token" value="(\w+)"', scene.get(scene.point_path, "user").text)
        assert found
        token = found[1]
    headers = {"x-role": role, "origin": origin}
    return scene.client.post(f"{scene.point_path}/pin", data={"token": token, **fields}, headers=headers)


def told(scene: Scene) -> list[tuple[str, str]]:
    """Return the kinds of the ledger's entries with who it was, oldest first."""
    repository = open_repository(scene.store, PASSWORD)
    return [(one.kind.value, one.who) for one in (ledger.entry(repository, number) for number in ledger.numbers(repository))]


def test_a_point_is_pinned_and_left_to_retention_again(scene: Scene) -> None:
    """By name, with a reason and an end; the page shows it at once, and the ledger holds both deeds."""
    answer = post(scene, note="before the <b>upgrade</b>", days="30")
    (pin,) = pins(scene.store).values()
    shown = scene.get(scene.point_path, "user").text
    again = post(scene, deed="unpin")

    assert (answer.status_code, answer.headers["location"]) == (303, scene.point_path)
    assert (pin.who, pin.note, pin.until is not None) == ("user", "before the <b>upgrade</b>", True)
    assert "pinned: retention leaves it alone" in shown
    assert (again.status_code, dict(pins(scene.store))) == (303, {})
    assert told(scene) == [("pinned", "user"), ("unpinned", "user")]


@pytest.mark.parametrize(
    ("role", "more"),
    [("viewer", {}), ("user", {"origin": "http://evil.test"}), ("user", {"token": "0" * 64}), ("user", {"token": ""}), ("op", {})],
    ids=["no right", "another page's", "a guessed token", "no token", "a token of somebody else"],
)
def test_nothing_is_pinned_for_whoever_may_not(scene: Scene, role: str, more: dict[str, str]) -> None:
    """Nor is anything noted."""
    answer = post(scene, role, **more)

    assert (answer.status_code, dict(pins(scene.store)), told(scene)) == (403, {}, [])


def test_a_viewer_is_offered_no_form(scene: Scene) -> None:
    """Only the state."""
    text = scene.get(scene.point_path, "viewer").text

    assert ("/pin" in text, "<dt>Pin</dt><dd>none" in text) == (False, True)


@pytest.mark.parametrize("days", ["0", "-1", "36501", "1e3", "\u0665", "9" * 400])
def test_days_that_are_none_are_refused(scene: Scene, days: str) -> None:
    """In one sentence, and nothing is pinned."""
    with pytest.raises(UsageError):
        pinned_until(days, NOON)

    assert post(scene, days=days).status_code == 400
    assert dict(pins(scene.store)) == {}


def test_without_days_a_pin_has_no_end() -> None:
    """As `becalm pin` has it."""
    assert pinned_until(" ", NOON) is None
