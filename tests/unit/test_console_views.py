"""What the console's pages are made of: a cache that never makes anybody wait twice, tokens, searches, hidden values, a drawing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.console_scenes import RoleVisitor, description

from becalm.airflow.console import object_view, points_view, words
from becalm.airflow.console.cache import Cache
from becalm.airflow.console.evidence_view import LEFT, WIDTH, evidence
from becalm.airflow.console.tokens import SECONDS, Tokens, same_origin
from becalm.errors import StoreUnavailable
from becalm.model import RecoveryPoint
from becalm.testing.fake_clock import FakeClock


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads that are gone after the test."""
    with ThreadPoolExecutor(2) as made:
        yield made


def test_an_old_answer_stands_while_a_new_one_is_read(pool: ThreadPoolExecutor) -> None:
    """And a failure leaves it standing, with the problem beside it."""
    clock, answers = FakeClock(), iter([1, 2])

    def read(_key: str, _known: int | None) -> int:
        try:
            return next(answers)
        except StopIteration:
            raise StoreUnavailable("the bucket is away") from None

    cache: Cache[str, int] = Cache(read, clock=clock, pool=pool, fresh_seconds=10, patience_seconds=60, most=2)
    seen = []
    for _ in range(4):
        seen.append(cache.get("a").value)
        clock.advance(11)
        cache.get("a")
        cache.settle()
    last = cache.get("a")

    assert seen == [1, 2, 2, 2]
    assert last.problem is not None


def test_a_cache_keeps_no_more_than_it_may(pool: ThreadPoolExecutor) -> None:
    """What was not asked for longest goes."""
    reads: list[str] = []

    def read(key: str, _known: str | None) -> str:
        reads.append(key)
        return key

    cache: Cache[str, str] = Cache(read, clock=FakeClock(), pool=pool, fresh_seconds=10, patience_seconds=60, most=2)
    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get(key)

    assert reads == ["a", "b", "c", "b"]


def test_a_token_is_ones_own_for_one_deed_and_a_time() -> None:
    """Another user, another path, another secret, or a later hour does not accept it."""
    clock, visitor = FakeClock(), RoleVisitor("op")
    tokens = Tokens("secret", clock)
    token = tokens.make(visitor, "/reveal")
    own = tokens.good(visitor, "/reveal", token)
    others = [
        tokens.good(RoleVisitor("user"), "/reveal", token),
        tokens.good(visitor, "/other", token),
        Tokens("another", clock).good(visitor, "/reveal", token),
        tokens.good(visitor, "/reveal", "é"),
    ]
    clock.advance(2 * SECONDS)

    assert own
    assert others == [False] * 4
    assert not tokens.good(visitor, "/reveal", token)


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://a", "host": "a"}, False),
        ({"origin": "http://a:1", "host": "a:1"}, True),
        ({"origin": "http://b", "host": "a"}, False),
        ({"origin": "null", "host": "a"}, False),
        ({"host": "a"}, False),
    ],
)
def test_where_a_form_comes_from_must_be_said(headers: dict[str, str], same: bool) -> None:
    """Silence is no answer."""
    assert same_origin(headers) is same


@given(st.binary(min_size=1, max_size=40))
def test_any_name_survives_an_address(raw: bytes) -> None:
    """Whatever its bytes are."""
    name = raw.decode("utf-8", "surrogateescape")
    address = words.query(path=name)

    assert words.read_fields(address.removeprefix("?").encode()) == {"path": name}


@given(st.text(max_size=50))
def test_a_shown_name_holds_nothing_that_cannot_be_printed(name: str) -> None:
    """Neither what turns the writing round nor lone surrogates."""
    shown = words.name_of(name)

    assert shown.isprintable()
    assert shown.encode().decode() == shown


def test_a_secret_is_hidden_wherever_it_is_repeated() -> None:
    """In its values, and in the annotation that kubectl leaves."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "x", "annotations": {object_view.LAST_APPLIED: '{"data":{"a":"hunter"}}', "plain": "stays"}},
        "data": {"a": "hunter"},
        "stringData": {"b": "hunter"},
    }
    text = object_view.as_yaml(object_view.hidden(secret))

    assert "hunter" not in text
    assert ("a:" in text, "stays" in text) == (True, True)


def test_the_freeze_is_drawn_round_the_cuts() -> None:
    """Everything lies within the drawing, and the cut within the freeze."""
    drawn = evidence(description())
    assert drawn is not None
    line = drawn.lines[0]
    assert line.frozen is not None

    assert LEFT <= line.frozen.x < line.cuts[0].x < line.frozen.x + line.frozen.width <= WIDTH


@pytest.mark.parametrize("odd", [{}, {"applications": None}, {"applications": [{"application": 1}]}, {"applications": [7], "thaws": "x"}])
def test_a_point_that_says_nothing_is_not_drawn(odd: dict[str, object]) -> None:
    """And is no failure."""
    assert evidence(odd) is None


def test_ten_thousand_points_are_paged_and_the_calendar_knows_each_day() -> None:
    """The page holds fifty, and a day names what a restore would take."""
    now = FakeClock().now()
    points = [RecoveryPoint(id=f"{k:064x}", policy="p", cut=now - timedelta(hours=10_000 - k), tree="") for k in range(10_000)]
    asked = points_view.Search(page=2)
    page = points_view.page_of(points_view.search(points, asked, now=now), asked, {}, rules=False)
    weeks = points_view.month_of(points, now.date().replace(day=1), now=now)
    today = next(day for week in weeks for day in week if day.day == now.date())

    assert (len(page.rows), page.pages, page.total) == (points_view.PAGE, 200, 10_000)
    assert page.rows[0].point is points[-51]
    assert today.would_be == points[-1].id
    assert points_view.beside(date(2026, 1, 1)) == ("2025-12", "2026-02")
