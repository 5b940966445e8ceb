"""Recovery points are read from the bucket alone, and found as a person speaks of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.catalog import points as catalog
from becalm.catalog.moments import moment
from becalm.errors import Damaged, PointMissing, StoreUnavailable, UsageError
from becalm.model import Consistency, RecoveryPoint
from becalm.repository.format import SnapshotDoc
from becalm.repository.reader import Repository, init_repository
from becalm.repository.snapshots import save_snapshot
from becalm.testing.builders import NOON, a_point, days, hours
from becalm.testing.fake_clock import FakeClock
from becalm.testing.faulty_store import Fault, FaultyStore
from becalm.testing.memory_store import MemoryStore

TREE = sha256(b"tree").hexdigest()


@pytest.fixture
def repository() -> Repository:
    """An empty repository."""
    return init_repository(MemoryStore(clock=FakeClock(NOON)), "password")


def _save(repository: Repository, point: RecoveryPoint, *, retain_until: datetime | None = None) -> RecoveryPoint:
    doc = SnapshotDoc(time=point.cut, tree=TREE, hostname=point.cluster, username="becalm", tags=catalog.tags_of(point))
    return replace(point, id=save_snapshot(repository, doc, retain_until=retain_until), tree=TREE, locked_until=None)


def test_a_point_comes_back_from_the_bucket_as_it_was(repository: Repository) -> None:
    """Tags and fields of the snapshot say all that the catalogue needs."""
    point = RecoveryPoint(
        id="",
        policy="shop",
        cut=NOON,
        tree=TREE,
        cluster="production",
        revision="4711",
        run="0123456789",
        slot=NOON - timedelta(hours=3, minutes=12),
        late=timedelta(hours=3, minutes=12),
        consistency=Consistency.APPLICATION,
    )
    saved = _save(repository, point)

    assert catalog.points(repository, "shop") == [saved]


def test_the_tags_read_well() -> None:
    """They are what `restic snapshots` shows."""
    point = replace(a_point(slot=NOON - timedelta(hours=3, minutes=12), complete=False), run="0123456789", revision="4711")

    assert catalog.tags_of(point) == (
        "policy=shop",
        "run=0123456789",
        "verdict=partial",
        "consistency=crash-consistent",
        "revision=4711",
        "slot=2026-06-15T08:48:00Z",
        "late=3h12m",
    )


moments = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)).map(lambda naive: naive.replace(tzinfo=UTC))  # noqa: DTZ001


@st.composite
def tagged_points(draw: st.DrawFn) -> RecoveryPoint:
    """Every point that Becalm can write."""
    slot = draw(st.none() | moments)
    return RecoveryPoint(
        id="a" * 64,
        policy="shop",
        cut=draw(moments),
        tree=TREE,
        cluster=draw(st.sampled_from(["", "production"])),
        revision=draw(st.from_regex(r"[0-9]{0,20}", fullmatch=True)),
        run="0123456789",
        slot=slot,
        late=timedelta(seconds=draw(st.integers(0, 10**9))) if slot else timedelta(0),
        complete=draw(st.booleans()),
        consistency=draw(st.sampled_from(Consistency)),
    )


@given(tagged_points())
def test_parsing_is_the_inverse_of_tagging(point: RecoveryPoint) -> None:
    """For every point."""
    doc = SnapshotDoc(time=point.cut, tree=TREE, hostname=point.cluster, tags=catalog.tags_of(point))

    assert catalog.parse(point.id, doc) == point


@given(
    st.lists(
        st.text(max_size=30) | st.sampled_from(["policy=shop", "run=r", "verdict=complete", "slot=x", "late=-1", "late=9", "consistency="])
    )
)
def test_whatever_the_tags_say_reading_them_does_not_fail(tags: list[str]) -> None:
    """Anyone may tag snapshots with the restic command."""
    found = catalog.parse("a" * 64, SnapshotDoc(time=NOON, tree=TREE, tags=tuple(tags)))

    assert found is None or (found.policy and (found.slot is None or found.slot.tzinfo))


def test_a_tag_that_says_nothing_counts_as_the_weaker_claim() -> None:
    """Nobody believes a label that cannot be read."""
    tags = ("policy=shop", "run=r", "verdict=perhaps", "consistency=wonderful", "slot=noon", "late=3h")
    found = catalog.parse("a" * 64, SnapshotDoc(time=NOON, tree=TREE, tags=tags))

    assert found is not None
    assert (found.complete, found.consistency, found.slot, found.late) == (False, Consistency.CRASH, None, timedelta(0))


def test_snapshots_of_others_are_no_points(repository: Repository) -> None:
    """Another policy's, and those that somebody made with restic."""
    ours = _save(repository, a_point())
    _save(repository, a_point(policy="other"))
    for tags in ((), ("daily",), ("policy=shop",)):
        save_snapshot(repository, SnapshotDoc(time=NOON, tree=TREE, hostname="laptop", tags=tags))

    assert [point.id for point in catalog.points(repository, "shop")] == [ours.id]


def test_points_come_in_the_order_of_their_cuts(repository: Repository) -> None:
    """Whatever their ids are."""
    saved = [_save(repository, a_point(age=hours(age))) for age in (5, 1, 3)]

    assert [point.id for point in catalog.points(repository, "shop")] == [saved[0].id, saved[2].id, saved[1].id]


def test_pins_and_locks_are_told(repository: Repository) -> None:
    """A pin that has ended holds no longer; the lock is read from the snapshot object when asked for."""
    until = NOON + days(14)
    locked = _save(repository, a_point(age=hours(3)), retain_until=until)
    pinned = _save(repository, a_point(age=hours(2)))
    ended = _save(repository, a_point(age=hours(1)))
    catalog.pin(repository.store, pinned.id, note="before the migration", who="anna", now=NOON)
    catalog.pin(repository.store, ended.id, now=NOON, until=NOON - hours(1))

    found = catalog.points(repository, "shop", protection=True)
    assert [(point.id, point.pinned, point.locked_until) for point in found] == [
        (locked.id, False, until),
        (pinned.id, True, None),
        (ended.id, False, None),
    ]
    assert [point.locked_until for point in catalog.points(repository, "shop")] == [None, None, None]
    assert catalog.pins(repository.store)[pinned.id].note == "before the migration"


def test_a_point_can_be_unpinned(repository: Repository) -> None:
    """Twice, too."""
    point = _save(repository, a_point())
    catalog.pin(repository.store, point.id, now=NOON)
    for _ in range(2):
        catalog.unpin(repository.store, point.id)

    assert [found.pinned for found in catalog.points(repository, "shop")] == [False]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 2, "since": "2026-01-01T00:00:00Z"}'])
def test_a_pin_that_cannot_be_read_is_an_error(repository: Repository, body: bytes) -> None:
    """Retention would take what it protects."""
    point = _save(repository, a_point())
    repository.store.put(f"becalm/pins/{point.id}", body)

    with pytest.raises(Damaged, match=f"becalm/pins/{point.id}"):
        catalog.points(repository, "shop")


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER])
def test_a_list_that_fails_gives_no_shorter_list(repository: Repository, fault: Fault) -> None:
    """Neither of the pins nor of the snapshots: every call is made to fail once."""
    point = _save(repository, a_point())
    catalog.pin(repository.store, point.id, now=NOON)
    counting = FaultyStore(repository.store)
    catalog.points(replace(repository, store=counting), "shop", protection=True)

    for number in range(1, len(counting.calls) + 1):
        with pytest.raises(StoreUnavailable):
            catalog.points(replace(repository, store=FaultyStore(repository.store, {number: fault})), "shop", protection=True)


POINTS = [
    a_point(age=days(400), id="a" * 64),
    a_point(age=days(20), id="ab" * 32),
    a_point(age=days(2), id="abc0" * 16),
    a_point(age=hours(2), id="1234" * 16),
    a_point(age=hours(1), id="9" * 64, complete=False),
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("latest", 3),
        (" Latest ", 3),
        ("9999", 4),
        ("1" + "2341234", 3),
        ("ABAB", 1),
        ("a" * 64, 0),
        ("90 minutes ago", 3),
        ("121 minutes ago", 2),
        ("2 hours ago", 3),
        ("as of 5 minutes ago", 3),
        ("2 days ago", 2),
        ("2 weeks ago", 1),
        ("3w ago", 0),
        ("9 months ago", 0),
        ("1 year ago", 0),
        ("2026-06-15T10:00:00Z", 3),
        ("2026-06-15T11:59:00+02:00", 2),
        ("2026-06-15 10:00", 3),
        ("2026-06-15", 3),
        ("2026-06-14", 2),
        ("2026-05-31", 1),
    ],
)
def test_a_point_is_found_as_a_person_speaks_of_it(wanted: str, expected: int) -> None:
    """By `latest`, by the beginning of its id, by a time; a partial one by its id alone."""
    assert catalog.find(POINTS, wanted, now=NOON) == POINTS[expected]


@pytest.mark.parametrize("wanted", ["2 years ago", "2024-01-01", "beef", "b" * 64])
def test_a_point_that_is_missing_is_answered_with_what_there_is(wanted: str) -> None:
    """The newest first."""
    with pytest.raises(PointMissing, match=r"there is 99999999 of 2026-06-15T11:00:00Z \(partial\), 12341234 of 2026-06-15T10:00:00Z"):
        catalog.find(POINTS, wanted, now=NOON)


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "  ",
        "a",
        "abc",
        "yesterday",
        "2 fortnights ago",
        "ago",
        "-2 days ago",
        "2026-13-01",
        "2026-02-30T00:00Z",
        "999999 years ago",
        "0x12",
    ],
)
def test_what_names_no_point_is_refused_with_the_forms_that_do(wanted: str) -> None:
    """Never a guess."""
    with pytest.raises(UsageError, match="ago"):
        catalog.find(POINTS, wanted, now=NOON)


def test_an_id_that_fits_several_points_is_refused_with_their_ids() -> None:
    """More of it must be written."""
    twins = [a_point(age=days(age), id="aaaaaa" + str(age) * 58) for age in (1, 2)]

    with pytest.raises(UsageError, match="aaaaaa1111111111, aaaaaa2222222222"):
        catalog.find(twins, "aaaa", now=NOON)


def test_without_a_complete_point_there_is_no_latest() -> None:
    """And the error says what there is, if anything."""
    with pytest.raises(PointMissing, match=r"99999999 of .* \(partial\)"):
        catalog.find(POINTS[4:], "latest", now=NOON)
    with pytest.raises(PointMissing, match="no recovery point at this target"):
        catalog.find([], "latest", now=NOON)
    assert catalog.last_good(POINTS[4:]) is None


@given(age=st.integers(0, 10**7))
def test_as_of_is_the_newest_that_is_old_enough(age: int) -> None:
    """Against the definition."""
    wanted = NOON - timedelta(seconds=age)
    fitting = [point for point in POINTS if point.complete and point.cut <= wanted]

    assert catalog.as_of(POINTS, wanted) == fitting[-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 month ago", datetime(2026, 2, 28, 12, tzinfo=UTC)),
        ("13 months ago", datetime(2025, 2, 28, 12, tzinfo=UTC)),
        ("1 year ago", datetime(2025, 3, 31, 12, tzinfo=UTC)),
        ("3 months ago", datetime(2025, 12, 31, 12, tzinfo=UTC)),
        ("1 week ago", datetime(2026, 3, 24, 12, tzinfo=UTC)),
        ("90 seconds ago", datetime(2026, 3, 31, 11, 58, 30, tzinfo=UTC)),
        ("0 days ago", datetime(2026, 3, 31, 12, tzinfo=UTC)),
    ],
)
def test_months_are_those_of_the_calendar(text: str, expected: datetime) -> None:
    """A month before the 31st is the last day of a shorter month."""
    assert moment(text, now=datetime(2026, 3, 31, 12, tzinfo=UTC)) == expected


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_usage_error(text: str) -> None:
    """No traceback for a slip of the pen."""
    try:
        found = moment(text, now=NOON)
    except UsageError:
        return

    assert found.tzinfo is not None
