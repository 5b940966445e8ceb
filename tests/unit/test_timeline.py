"""The index over all recovery points: whatever was written, forgotten or damaged, it answers as the points themselves would."""

from __future__ import annotations

import fcntl
import stat
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from becalm.actions import finding, object_log
from becalm.actions.diff import Change, Rules
from becalm.actions.finding import Query
from becalm.actions.restore_patterns import ObjectPattern
from becalm.actions.restore_source import Source
from becalm.actions.timeline import Timeline
from becalm.catalog.points import points
from becalm.errors import UsageError
from becalm.policy.labels import LabelSelector
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository
from becalm.storage import open_store
from becalm.storage.wrappers import Counting
from becalm.testing.fake_cluster import DEFAULT_KINDS
from becalm.testing.manifests import a_map, a_namespace, a_secret
from becalm.testing.saved_points import CUT, PASSWORD, save_point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from becalm.repository.reader import Repository
    from becalm.storage.base import ObjectStore

ANY = ObjectPattern.parse("configmaps/*/*")
NAMES = ("a", "b", "c")


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """An empty bucket."""
    return open_store(f"file://{tmp_path}/shop", {}, create=True)


@pytest.fixture
def timeline(tmp_path: Path, store: ObjectStore) -> Iterator[Timeline]:
    """An empty index."""
    opened = Timeline.open(tmp_path / "cache" / "index.sqlite", "one")
    yield opened
    opened.close()


def save(store: ObjectStore, minute: int, levels: dict[str, str], **more: object) -> str:
    """Write a point of a few ConfigMaps, by their names and levels."""
    objects = [a_namespace(), *(a_map(name=name, level=level) for name, level in levels.items())]
    return save_point(store, objects, kinds=DEFAULT_KINDS, cut=CUT + timedelta(minutes=minute), **more).id


def refreshed(timeline: Timeline, store: ObjectStore) -> Repository:
    """Bring the index up to date."""
    repository = open_repository(store, PASSWORD)
    timeline.refresh(repository, points(repository, "shop"))
    return repository


def told(timeline: Timeline, repository: Repository, pattern: str = "v1/ConfigMap/shop/a") -> list[tuple[str, str, list[str]]]:
    """Return what became of an object: change, point, fields."""
    found = object_log.log(timeline, repository, ObjectPattern.parse(pattern), Rules())
    return [(str(entry.change), entry.seen.point, [change.path for change in entry.fields]) for entry in found]


def by_brute_force(repository: Repository) -> list[tuple[str, str, str]]:
    """Return what became of every ConfigMap, by reading all points whole: name, change, point."""
    complete = sorted((point for point in points(repository, "shop") if point.complete), key=lambda point: (point.cut, point.id))
    held: dict[str, object] = {}
    found = []
    for point in complete:
        read = Source.open(repository, point.tree).contents(lambda ref: ref.resource == "configmaps").objects
        now = {one.ref.name: one.manifest["data"] for one in read}
        for name in sorted({*held, *now}):
            if held.get(name) != now.get(name):
                change = Change.ADDED if name not in held else Change.REMOVED if name not in now else Change.CHANGED
                found.append((name, str(change), point.id))
        held = now
    return sorted(found)


def test_an_object_is_followed_from_point_to_point(store: ObjectStore, timeline: Timeline) -> None:
    """It comes, changes, goes, and comes again; a point in which nothing changed is not told."""
    ids = [save(store, number, levels) for number, levels in enumerate(({"b": "1"}, {"a": "1"}, {"a": "1"}, {"a": "2"}, {}, {"a": "2"}))]
    repository = refreshed(timeline, store)

    assert told(timeline, repository) == [
        ("added", ids[1], []),
        ("changed", ids[3], ["data.level"]),
        ("removed", ids[4], []),
        ("added", ids[5], []),
    ]


def test_values_of_secrets_are_hidden(store: ObjectStore, timeline: Timeline) -> None:
    """That a key changed is told, and neither value."""
    for number, key in enumerate(("YQ==", "Yg==")):
        save_point(store, [a_secret(key=key)], kinds=DEFAULT_KINDS, cut=CUT + timedelta(minutes=number))
    repository = refreshed(timeline, store)
    _, changed = object_log.log(timeline, repository, ObjectPattern.parse("v1/Secret/*/*"), Rules())

    assert [change.path for change in changed.fields] == ["data.key"]
    assert "Yg==" not in str(changed)


def test_a_partial_point_proves_no_absence(store: ObjectStore, timeline: Timeline) -> None:
    """What a partial point lacks need not have been gone: it does not count."""
    save(store, 0, {"a": "1"})
    save(store, 1, {}, complete=False)
    repository = refreshed(timeline, store)

    assert [change for change, _, _ in told(timeline, repository)] == ["added"]


def test_a_point_between_others_and_forgotten_ones_are_heeded(store: ObjectStore, timeline: Timeline) -> None:
    """A point that turns up later with an earlier cut is put in its place; what was forgotten is not told of any more."""
    first, last = save(store, 0, {"a": "1"}), save(store, 9, {"a": "3"})
    refreshed(timeline, store)
    between = save(store, 5, {"a": "2"})
    repository = refreshed(timeline, store)
    assert [point for _, point, _ in told(timeline, repository)] == [first, between, last]

    store.delete(f"{Layout.SNAPSHOTS}{first}")
    repository = refreshed(timeline, store)

    assert [(change, point) for change, point, _ in told(timeline, repository)] == [("added", between), ("changed", last)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.dictionaries(st.sampled_from(NAMES), st.sampled_from("12")), st.booleans()),
        min_size=1,
        max_size=7,
        unique_by=lambda step: step[0],
    )
)
def test_the_index_says_what_the_points_say(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, dict[str, str], bool]]
) -> None:
    """In whatever order points come and go, and whether or not the index saw each of them."""
    folder = tmp_path_factory.mktemp("timeline")
    store = open_store(f"file://{folder}/shop", {}, create=True)
    timeline = Timeline.open(folder / "index.sqlite", "one")
    try:
        for number, (minute, levels, forget) in enumerate(steps):
            made = save(store, minute, levels)
            if number % 2:
                refreshed(timeline, store)
            if forget and number:
                store.delete(f"{Layout.SNAPSHOTS}{made}")
        repository = refreshed(timeline, store)
        found = object_log.log(timeline, repository, ANY, Rules())

        assert sorted((entry.ref.name, str(entry.change), entry.seen.point) for entry in found) == by_brute_force(repository)
    finally:
        timeline.close()


def test_things_are_found_with_the_points_that_hold_them(store: ObjectStore, timeline: Timeline) -> None:
    """By a glob, by kind, by label; a thing that is gone says so."""
    labelled = a_map(name="web")
    labelled["metadata"]["labels"] = {"app": "web"}
    first = save_point(store, [a_namespace(), labelled, a_secret()], kinds=DEFAULT_KINDS).id
    last = save(store, 1, {"other": "1"})
    refreshed(timeline, store)
    by_label = finding.objects(timeline, Query(labels=(LabelSelector.parse("app=web"),)))
    by_kind = finding.objects(timeline, Query(kinds=("Secret",)))

    assert [(one.ref.name, one.first.point, one.last.point, one.gone) for one in by_label] == [("web", first, first, True)]
    assert [one.kind for one in by_kind] == ["Secret"]
    assert [one.first.point for one in finding.objects(timeline, Query(name="oth*"))] == [last]
    assert finding.objects(timeline, Query(name="web", since=CUT + timedelta(seconds=30))) == []


def test_files_are_found_by_name_and_by_path(store: ObjectStore, timeline: Timeline) -> None:
    """Over all points; what both hold is told once, with the first and the last."""
    ids = [
        save(store, number, {}, volumes={"shop/data": {"a/orders.db": b"1", "notes.txt": b"x", **more}})
        for number, more in enumerate(({}, {"b/orders.db": b"2"}))
    ]
    repository = refreshed(timeline, store)
    by_name = finding.files(timeline, repository, Query(name="orders.*"))
    by_path = finding.files(timeline, repository, Query(name="a/*.db"))

    assert [(one.path, one.first.point, one.last.point) for one in by_name] == [
        ("a/orders.db", ids[0], ids[1]),
        ("b/orders.db", ids[1], ids[1]),
    ]
    assert [(one.volume, one.path, one.points) for one in by_path] == [("shop/data", "a/orders.db", 2)]


@pytest.mark.parametrize("damage", [b"", b"this is no database", b"SQLite format 3\0" + bytes(4000)], ids=["empty", "text", "torn"])
def test_a_damaged_index_is_made_anew(tmp_path: Path, store: ObjectStore, damage: bytes) -> None:
    """It holds nothing that the bucket does not; nobody but its owner reads it."""
    point = save(store, 0, {"a": "1"})
    path = tmp_path / "own" / "index.sqlite"
    path.parent.mkdir()
    path.write_bytes(damage)
    timeline = Timeline.open(path, "one")
    try:
        repository = refreshed(timeline, store)

        assert told(timeline, repository) == [("added", point, [])]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        timeline.close()


def test_the_index_of_another_repository_is_not_believed(tmp_path: Path, store: ObjectStore) -> None:
    """Its answers would be another bucket's."""
    save(store, 0, {"a": "1"})
    path = tmp_path / "index.sqlite"
    mine = Timeline.open(path, "one")
    refreshed(mine, store)
    mine.close()
    other = Timeline.open(path, "other")
    try:
        assert list(other.versions(wants=lambda *_: True)) == []
    finally:
        other.close()


def test_an_index_that_cannot_be_there_is_told(tmp_path: Path) -> None:
    """With the file's name, and what to do."""
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="index"):
        Timeline.open(tmp_path / "file" / "index.sqlite", "one")


def indexed(tmp_path: Path, store: ObjectStore) -> Counting:
    """Make an index, then bring it up to date as another process would; return what the second one asked of the store."""
    for _ in range(2):
        counted = Counting(store)
        timeline = Timeline.open(tmp_path / "warm.sqlite", "one")
        try:
            repository = open_repository(counted, PASSWORD)
            timeline.refresh(repository, timeline.points(repository, "shop"))
            told(timeline, repository)
        finally:
            timeline.close()
    return counted


def test_a_warm_index_reads_nothing_that_it_knows(tmp_path: Path, store: ObjectStore) -> None:
    """Neither snapshots nor index objects nor packs: it gets no more than whoever only opens the repository."""
    for number in range(4):
        save(store, number, {"a": str(number)}, complete=number != 2)
    asked, opened = indexed(tmp_path, store), Counting(store)
    open_repository(opened, PASSWORD)

    assert asked.calls["get"] == opened.calls["get"] > 0


def test_the_points_that_the_index_tells_are_those_of_the_bucket(store: ObjectStore, timeline: Timeline) -> None:
    """Complete ones of the policy, also when some were known before and others are gone."""
    first = save(store, 0, {"a": "1"})
    save(store, 1, {}, complete=False)
    save(store, 2, {}, policy="other")
    repository = refreshed(timeline, store)
    last = save(store, 3, {"a": "2"})
    assert {point.id for point in timeline.points(repository, "shop")} == {first, last}

    store.delete(f"{Layout.SNAPSHOTS}{first}")

    assert {point.id for point in timeline.points(repository, "shop")} == {last}


def test_a_snapshot_that_comes_back_counts_again(store: ObjectStore, timeline: Timeline) -> None:
    """As in a bucket with versions, where a deletion is taken back."""
    ids = [save(store, number, {"a": str(number)}) for number in range(2)]
    refreshed(timeline, store)
    key = f"{Layout.SNAPSHOTS}{ids[1]}"
    sealed = store.get(key)
    store.delete(key)
    refreshed(timeline, store)
    store.put(key, sealed)
    repository = refreshed(timeline, store)

    assert [point for _, point, _ in told(timeline, repository)] == ids


def test_the_file_tells_no_content(tmp_path: Path, store: ObjectStore) -> None:
    """What an object says is sealed; of a Secret nothing is kept at all."""
    for number, (level, key) in enumerate((("plain-one", "c2VjcmV0"), ("plain-two", "aGlkZGVu"))):
        objects = [a_map(name="a", level=level), a_secret(key=key)]
        save_point(store, objects, kinds=DEFAULT_KINDS, cut=CUT + timedelta(minutes=number))
    indexed(tmp_path, store)
    held = (tmp_path / "warm.sqlite").read_bytes()
    timeline = Timeline.open(tmp_path / "warm.sqlite", "one")
    kept = timeline.database.execute("SELECT kind, body IS NULL FROM version ORDER BY kind").fetchall()
    timeline.close()

    assert not [word for word in (b"plain-one", b"plain-two", b"c2VjcmV0", b"aGlkZGVu") if word in held]
    assert kept == [("ConfigMap", 0), ("ConfigMap", 0), ("Secret", 1), ("Secret", 1)]


def test_content_that_was_harmed_in_the_index_is_read_from_the_bucket(store: ObjectStore, timeline: Timeline) -> None:
    """The seal shows it."""
    ids = [save(store, number, {"a": str(number)}) for number in range(2)]
    repository = refreshed(timeline, store)
    timeline.database.execute("UPDATE version SET body = randomblob(200)")

    assert told(timeline, repository) == [("added", ids[0], []), ("changed", ids[1], ["data.level"])]


def test_one_process_at_a_time_has_the_index(tmp_path: Path) -> None:
    """Another one waits until it is let go: nobody takes a file that is being written for a damaged one."""
    path = tmp_path / "index.sqlite"
    timeline = Timeline.open(path, "one")
    with open(f"{path}.lock", "rb") as lock:  # noqa: PTH123  (its number is asked for)
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        timeline.close()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it would raise

    assert path.exists()
