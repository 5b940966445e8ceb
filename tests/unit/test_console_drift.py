"""The console's page of drift: what is open since when, what was acknowledged, and what nobody has looked at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.unit.console_scenes import EVIL, Scene, a_console

from becalm.catalog import drift
from becalm.catalog.coverage import Open
from becalm.catalog.drift import Acknowledged, DriftLook, DriftRecord
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository
from becalm.testing.builders import NOON
from becalm.testing.saved_points import PASSWORD


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A console of one's own."""
    with a_console() as made:
        yield made


def keep(scene: Scene, **said: object) -> None:
    """Write a record into the bucket of `shop`, with one look."""
    look = DriftLook(time=NOON, point=scene.point.id, compared=213, high=1, medium=2, low=3, unknown=0)
    record = DriftRecord(policy="shop", looks=(look,), **said)  # type: ignore[arg-type]
    drift.save(open_repository(scene.store, PASSWORD), record, None)


def test_a_policy_that_nobody_looked_at_is_said_to_be_unknown(scene: Scene) -> None:
    """With what to do; it is no peace."""
    text = scene.get("/drift?policy=shop").text

    assert "Nobody has looked yet" in text
    assert "becalm_drift" in text


def test_the_page_tells_what_is_open_and_what_was_acknowledged(scene: Scene) -> None:
    """Names, reasons and notes that others chose are text."""
    piece = Open(where=f"configmaps/shop/{EVIL}", what="high changed", because="by <b>kubectl</b>", since=NOON)
    known = Acknowledged(where="secrets/shop/tls", because="x", until=NOON + timedelta(days=3), who="anna", note="<i>a trial</i>")
    keep(scene, open=(piece,), acknowledged=(known,))
    text = scene.get("/drift?policy=shop").text

    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert ("<img" in text, "<b>kubectl</b>" in text, "<i>a trial" in text) == (False, False, False)
    assert "until 2026-06-18 12:00:00 UTC by anna" in text
    assert "213 objects" in text
    assert scene.point.id[:8] in text


def test_pieces_are_searched_and_paged(scene: Scene) -> None:
    """A hundred on a page."""
    keep(scene, open=tuple(Open(where=f"secrets/shop/{number:04d}", what="medium added", because="x", since=NOON) for number in range(150)))

    assert "page 2 of 2" in scene.get("/drift?policy=shop&page=2").text
    assert scene.get("/drift?policy=shop&q=0007").text.count("<code>secrets/shop/") == 1
    assert "Nothing that is open answers the search" in scene.get("/drift?policy=shop&q=zzz").text


@pytest.mark.parametrize(("path", "status"), [("/drift?page=0", 400), ("/drift?policy=%3Cb%3E", 404)])
def test_a_wrong_question_gets_an_answer(scene: Scene, path: str, status: int) -> None:
    """And never the question as HTML."""
    answer = scene.get(path)

    assert (answer.status_code, "<b>" in answer.text) == (status, False)


def test_a_damaged_record_is_told(scene: Scene) -> None:
    """It is not taken for peace."""
    scene.store.put(Layout.DRIFT, b"no record at all")
    text = scene.get("/drift?policy=shop").text

    assert 'role="alert"' in text
    assert "Nothing is open" not in text
