"""The console's pages of coverage and of gaps: what was found, since when, to whom; and what nobody has looked at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.unit.console_scenes import EVIL, Scene, a_console

from becalm.airflow.console.coverage import HEIGHT, PAGE, WIDTH, dots, matching
from becalm.catalog import coverage, epochs
from becalm.catalog.coverage import CoverageRecord, Look, Open
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository
from becalm.testing.builders import NOON
from becalm.testing.saved_points import PASSWORD

DAY = timedelta(days=1)
CLUSTER = "kubernetes_default"


def a_look(place: int = 0, percent: int | None = 50, **more: int) -> Look:
    said = {"missing": 3, "unknown": 0, **more}
    return Look(time=NOON + place * DAY, percent=percent, arithmetic=f"{percent} of 100", claims={"front": "expired"}, **said)


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A console of one's own."""
    with a_console() as made:
        yield made


def keep(scene: Scene, record: CoverageRecord) -> None:
    """Write a record where the DAG would: into the bucket of the first policy by name."""
    coverage.save(open_repository(scene.source.stores["other"], PASSWORD), record, None)


def test_a_cluster_that_nobody_looked_at_is_said_to_be_unknown(scene: Scene) -> None:
    """With what to do; it is no good news."""
    text = scene.get("/coverage").text

    assert "Nobody has looked yet" in text
    assert "becalm_coverage" in text


def test_the_page_tells_what_is_open_since_when_and_why(scene: Scene) -> None:
    """Names that others chose are text; the claims that do not hold are named."""
    pieces = (Open(where=f"secrets/shop/{EVIL}", what="secret", because="no policy selects <b>it</b>", since=NOON),)
    keep(scene, CoverageRecord(cluster=CLUSTER, open=pieces, looks=(a_look(0, 40), a_look(1, 60, unknown=2))))
    text = scene.get("/coverage").text

    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert ("<img" in text, "<b>it</b>" in text) == (False, False)
    assert "2026-06-15 12:00:00 UTC" in text
    assert "60 of 100" in text
    assert "2: until it can be, nothing counts as over" in text
    assert "expired" in text
    assert '<svg class="evidence"' in text


def test_pieces_are_searched_and_paged(scene: Scene) -> None:
    """A page holds a hundred of them; a search for nothing that is there says so."""
    pieces = tuple(Open(where=f"secrets/shop/one-{number:04d}", what="secret", because="none", since=NOON) for number in range(250))
    keep(scene, CoverageRecord(cluster=CLUSTER, open=pieces, looks=(a_look(missing=250),)))
    last = scene.get("/coverage?page=3").text

    assert last.count("secrets/shop/one-") == 250 - 2 * PAGE
    assert "page 3 of 3" in last
    assert scene.get("/coverage?q=ONE-0007").text.count("secrets/shop/one-") == 1
    assert "Nothing that is open answers the search" in scene.get("/coverage?q=zzz").text


def test_whoever_may_not_see_every_policy_of_a_cluster_sees_nothing_of_its_coverage(scene: Scene) -> None:
    """The record speaks of all namespaces."""
    pieces = (Open(where="secrets/shop/token", what="secret", because="none", since=NOON),)
    keep(scene, CoverageRecord(cluster=CLUSTER, open=pieces, looks=(a_look(),)))
    half = scene.get("/coverage", "viewer", **{"x-policy": "other"})

    assert (half.status_code, "token" in half.text) == (200, False)
    assert "no cluster of which you may see every policy" in half.text
    assert scene.get(f"/coverage?cluster={CLUSTER}", "viewer", **{"x-policy": "other"}).status_code == 404


@pytest.mark.parametrize(("path", "status"), [("/coverage?page=0", 400), ("/coverage?cluster=%3Cb%3E", 404), ("/policies/none/gaps", 404)])
def test_a_wrong_question_gets_an_answer(scene: Scene, path: str, status: int) -> None:
    """And never the question as HTML."""
    answer = scene.get(path)

    assert (answer.status_code, "<b>" in answer.text) == (status, False)


def test_a_damaged_record_is_told(scene: Scene) -> None:
    """It is not taken for a cluster that nobody looked at."""
    scene.source.stores["other"].put(Layout.COVERAGE, b"no record at all")
    text = scene.get("/coverage").text

    assert 'role="alert"' in text
    assert "Nobody has looked yet" not in text


def test_dots_lie_in_the_plot() -> None:
    """The first to the left, the last to the right, all of it above; a look at nothing has no score."""
    drawn = dots([a_look(0, 0), a_look(1, None), a_look(2, 50), a_look(4, 100)])

    assert [(one.x, one.y) for one in drawn] == [(0.0, HEIGHT), (WIDTH / 2, HEIGHT / 2), (WIDTH, 0.0)]
    assert dots([]) == []
    assert [one.x for one in dots([a_look()])] == [WIDTH]


def test_a_search_looks_at_every_word() -> None:
    """Large or small."""
    pieces = [Open(where="secrets/a/b", what="Secret", because="left", since=NOON), Open(where="x", what="y", because="z", since=NOON)]

    assert [len(matching(pieces, text)) for text in ("", "SECRET", "LEFT", "b\nS", "no")] == [2, 1, 1, 1, 0]


def test_gaps_are_listed_with_a_button_for_whoever_may_start_runs(scene: Scene) -> None:
    """It names the first and the last; a viewer gets the list alone."""
    store = scene.source.stores["shop"]
    full = store.now().replace(minute=0, second=0, microsecond=0)
    epochs.note(store, schedule="0 * * * *", timezone="UTC", now=full - timedelta(hours=5.5))
    scene.get("/policies/shop/gaps")
    scene.library.settle()
    text = scene.get("/policies/shop/gaps", "user").text
    viewed = scene.get("/policies/shop/gaps", "viewer").text

    assert 'id="backfill" data-dag="becalm_policy_shop"' in text
    assert f'name="from" value="{full - timedelta(hours=5):%Y-%m-%dT%H:00:00}' in text
    assert text.count("no run has answered it") >= 4
    assert ('id="backfill"' in viewed, viewed.count("no run has answered it") >= 4) == (False, True)


def test_a_policy_without_gaps_says_so(scene: Scene) -> None:
    """And offers nothing: what is created today owes nothing for yesterday."""
    store = scene.source.stores["shop"]
    epochs.note(store, schedule="0 * * * *", timezone="UTC", now=store.now())
    scene.get("/policies/shop/gaps")
    scene.library.settle()
    text = scene.get("/policies/shop/gaps").text

    assert "Every slot of the last week was answered" in text
    assert "backfill" not in text
