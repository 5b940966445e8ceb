"""Repositories of other makers: shown as adopted points on a person's word, read without it, and never touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from becalm.catalog import points as catalog
from becalm.catalog.adoption import adopt, adopted, adoption_of, choose, foreign
from becalm.cli.app import app
from becalm.errors import Damaged, PermanentError, PointMissing, UsageError
from becalm.repository.backup import back_up_directory
from becalm.repository.check import check
from becalm.repository.crypto import Kdf
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.globs import match
from becalm.repository.prune import Rules, prune
from becalm.repository.reader import Repository, init_repository, open_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.tree import TreeBuilder
from becalm.repository.writer import Writer
from becalm.storage.base import ObjectStore
from becalm.storage.directory import DirectoryStore
from becalm.testing.builders import NOON, hours
from becalm.testing.fake_clock import FakeClock
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import PASSWORD, save_point

CHEAP = Kdf(n=16, r=1)
BEFORE = datetime(2025, 1, 1, tzinfo=UTC)


def a_foreign_repository(store: ObjectStore, **files: bytes) -> tuple[Repository, str]:
    """Write a repository as another program would: a snapshot without a tag of Becalm's. Return its id."""
    repository = init_repository(store, PASSWORD, kdf=CHEAP)
    return repository, a_foreign_snapshot(repository, **files)


def a_foreign_snapshot(repository: Repository, *, time: datetime = BEFORE, **files: bytes) -> str:
    with Writer(repository) as writer:
        builder = TreeBuilder()
        for name, content in (files or {"file": b"content"}).items():
            builder.add_bytes(f"home/data/{name}", content)
        tree = builder.write(writer)
    return save_snapshot(repository, SnapshotDoc(time=time, tree=tree, paths=("/home/data",), hostname="old[red]", tags=("nightly",)))


def keys(store: ObjectStore) -> set[str]:
    return {info.key for info in store.list("")}


def test_an_adoption_is_written_once_and_touches_nothing_else() -> None:
    """The first word stands; the second call finds it."""
    store = MemoryStore()
    repository, _ = a_foreign_repository(store)
    before = keys(store)
    first, made = adopt(repository, who="ada", now=NOON)
    second, again = adopt(repository, who="bob", now=NOON + hours(1))

    assert (made, again) == (True, False)
    assert first == second == adoption_of(repository)
    assert keys(store) - before == {Layout.ADOPTED}


def test_snapshots_of_others_are_points_only_where_they_were_adopted() -> None:
    """And they carry what their maker said of them."""
    repository, snapshot = a_foreign_repository(MemoryStore())
    unseen = adopted(repository)
    adopt(repository, who="ada", now=NOON)
    [seen] = adopted(repository)

    assert unseen == []
    assert (seen.point.id, seen.point.cut, seen.snapshot.paths) == (snapshot, BEFORE, ("/home/data",))
    assert [one.point.id for one in foreign(repository)] == [snapshot]


def test_no_policy_sees_an_adopted_point_so_that_no_retention_takes_it() -> None:
    """Not even a policy of that name: what retention reads is the list of a policy's own points."""
    store = MemoryStore()
    repository, _ = a_foreign_repository(store)
    adopt(repository, who="ada", now=NOON)
    own = save_point(store, [], kinds=[], raw={"recovery-point.json": b"{}"}, policy="adopted")

    assert [point.id for point in catalog.points(repository, "adopted")] == [own.id]


@pytest.mark.parametrize("document", [b"", b"[]", b'{"format": 2}', b'{"format": 1, "since": 7, "who": ""}', b'{"format": 1}'])
def test_an_adoption_that_cannot_be_read_is_named(document: bytes) -> None:
    """With its place and what to do."""
    store = MemoryStore()
    repository, _ = a_foreign_repository(store)
    store.put(Layout.ADOPTED, document)

    with pytest.raises(Damaged, match="becalm/adopted") as caught:
        adoption_of(repository)
    assert "adopt again" in str(caught.value) or "JSON" in str(caught.value)


def test_latest_means_the_policys_own_and_an_id_means_any() -> None:
    """A snapshot of another maker does not slip in as the newest point of a policy."""
    store = MemoryStore()
    repository, _ = a_foreign_repository(store)
    own = save_point(store, [], kinds=[], raw={"recovery-point.json": b"{}"})
    newer = a_foreign_snapshot(repository, time=NOON + timedelta(days=900))
    now = NOON + timedelta(days=1000)

    assert choose(repository, "shop", "latest", now=now).id == own.id
    assert choose(repository, "shop", newer[:12], now=now).id == newer
    assert choose(repository, "nobody", "latest", now=now).id == newer
    with pytest.raises(PointMissing):
        choose(repository, "shop", "100 weeks ago", now=BEFORE + timedelta(days=1))


def test_a_pattern_means_entries_segment_by_segment() -> None:
    """A star stops at a slash; a name is found as it is, even where it looks like a pattern."""
    repository = init_repository(MemoryStore(), PASSWORD, kdf=CHEAP)
    with Writer(repository) as writer:
        builder = TreeBuilder()
        for path in ("a/x.db", "a/y.db", "a/b/z.db", "c/x.db", "c/[x].db", "c/\udcff", "top"):
            builder.add_bytes(path, b"1")
        tree = builder.write(writer)

    assert match(repository, tree, "a/*.db") == ["a/x.db", "a/y.db"]
    assert match(repository, tree, "/*/x.db") == ["a/x.db", "c/x.db"]
    assert match(repository, tree, "c/[x].db") == ["c/[x].db"]
    assert match(repository, tree, "c/[xy].db") == ["c/x.db"]
    assert match(repository, tree, "c/\udcff") == ["c/\udcff"]
    assert match(repository, tree, "?") == ["a", "c"]
    assert match(repository, tree, "top/more") == match(repository, tree, "b") == match(repository, tree, "//") == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    return path


@pytest.fixture
def becalm(folder: Path, tmp_path: Path) -> Callable[..., Result]:
    """The command line, on a repository of another maker; a failure that is no error of Becalm's fails the test."""
    (tmp_path / "password").write_text(PASSWORD)
    place = ["--target", f"file://{folder}", "--password", f"file:{tmp_path}/password"]

    def run(verb: str, *arguments: str) -> Result:
        done = CliRunner().invoke(app, [verb, *place, *arguments], catch_exceptions=True)
        if done.exception is not None and not isinstance(done.exception, (SystemExit, PermanentError, UsageError, Damaged)):
            raise done.exception
        return done

    return run


def read(done: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_adopt_lists_and_then_points_and_show_know_them(folder: Path, becalm: Callable[..., Result]) -> None:
    """Before the word there is nothing to see; the dry run writes nothing; names of others are text, not markup."""
    store = DirectoryStore(str(folder))
    _, snapshot = a_foreign_repository(store)
    before = keys(store)
    dry = becalm("adopt", "--dry-run")
    after_dry = keys(store)
    unseen = becalm("points")
    done = becalm("adopt")
    points = read(becalm("points", "--json"))
    shown = read(becalm("show", "--point", snapshot[:8], "--objects", "--json"))

    assert after_dry == before
    assert "nothing was written" in dry.stdout
    assert "nothing is adopted" in unseen.stdout
    assert snapshot[:8] in done.stdout
    assert "old[red]" in becalm("points").stdout
    assert [(one["id"], one["state"], one["paths"], one["tags"]) for one in points["adopted"]] == [
        (snapshot, "adopted", ["/home/data"], ["nightly"])
    ]
    assert points["points"] == []
    assert shown["objects"] == ["home", "home/data", "home/data/file"]
    assert (shown["point"]["id"], shown["point"]["host"]) == (snapshot, "old[red]")
    assert "home/data/file" in becalm("show", "--objects").stdout


def test_an_adopted_point_is_pinned_like_any(folder: Path, becalm: Callable[..., Result]) -> None:
    """A pin is a person's word on one point, whoever made it."""
    repository, snapshot = a_foreign_repository(DirectoryStore(str(folder)))
    becalm("adopt")
    becalm("pin", "--point", snapshot[:8])
    pinned = adopted(repository)[0].point.pinned
    becalm("unpin", "--point", snapshot[:8])

    assert (pinned, adopted(repository)[0].point.pinned) == (True, False)


def test_extract_needs_no_adoption(folder: Path, tmp_path: Path, becalm: Callable[..., Result]) -> None:
    """Reading harms nothing, and in an emergency nobody wants to write first."""
    _, snapshot = a_foreign_repository(DirectoryStore(str(folder)), one=b"1", two=b"22")
    done = read(becalm("extract", "--point", snapshot[:8], "--to", str(tmp_path / "all"), "--json"))
    becalm("extract", "--path", "home/data/two", "--to", str(tmp_path / "one"))
    becalm("extract", "--path", "/home/*/", "--to", str(tmp_path / "folder"))

    assert (done["ok"], done["point"], done["files"], done["failures"]) == (True, snapshot, 2, [])
    assert (tmp_path / "all" / "home" / "data" / "two").read_bytes() == b"22"
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["two"]
    assert sorted(path.name for path in (tmp_path / "folder" / "data").iterdir()) == ["one", "two"]


def test_extract_writes_over_nothing_unasked(folder: Path, tmp_path: Path, becalm: Callable[..., Result]) -> None:
    """A folder with something in it is refused; with --resume what was begun is finished, and the rest stays."""
    a_foreign_repository(DirectoryStore(str(folder)), one=b"1", two=b"22")
    goal = tmp_path / "goal"
    becalm("extract", "--path", "home/data/*", "--to", str(goal))
    (goal / "two").write_bytes(b"mine")
    (goal / "other").write_bytes(b"other")
    refused = becalm("extract", "--path", "home/data/*", "--to", str(goal))
    kept = (goal / "two").read_bytes()
    resumed = read(becalm("extract", "--path", "home/data/*", "--to", str(goal), "--resume", "--json"))

    assert isinstance(refused.exception, UsageError)
    assert "is not empty" in str(refused.exception)
    assert kept == b"mine"
    assert (resumed["files"], resumed["kept"]) == (1, 1)
    assert {path.name: path.read_bytes() for path in goal.iterdir()} == {"one": b"1", "two": b"22", "other": b"other"}


@pytest.mark.parametrize(
    ("paths", "words"),
    [(["home/data/three"], "is called"), (["home/data/one", "home/more/one"], "would both become one"), ([""], "is called")],
)
def test_a_path_that_means_nothing_or_too_much_is_refused_before_anything_is_made(
    paths: list[str], words: str, folder: Path, tmp_path: Path, becalm: Callable[..., Result]
) -> None:
    """The folder is not even there."""
    repository, _ = a_foreign_repository(DirectoryStore(str(folder)))
    with Writer(repository) as writer:
        builder = TreeBuilder()
        builder.add_bytes("home/data/one", b"1")
        builder.add_bytes("home/more/one", b"2")
        tree = builder.write(writer)
    save_snapshot(repository, SnapshotDoc(time=NOON, tree=tree))
    done = becalm("extract", *(word for path in paths for word in ("--path", path)), "--to", str(tmp_path / "goal"))

    assert isinstance(done.exception, UsageError)
    assert words in str(done.exception)
    assert not (tmp_path / "goal").exists()


def test_what_is_not_as_it_was_is_named_and_decides_the_exit_code(folder: Path, tmp_path: Path, becalm: Callable[..., Result]) -> None:
    """A file whose pack is gone fails, the rest is there."""
    repository = init_repository(DirectoryStore(str(folder)), PASSWORD, kdf=CHEAP)
    source = tmp_path / "source"
    source.mkdir()
    (source / "lost").write_bytes(b"l" * 1000)
    with Writer(repository) as writer:
        back_up_directory(repository, writer, source)
    [gone] = {place.pack for place in repository.index.entries() if place.blob.kind == "data"}
    (source / "there").write_bytes(b"t" * 1000)
    with Writer(repository) as writer:
        written = back_up_directory(repository, writer, source)
    save_snapshot(repository, SnapshotDoc(time=NOON, tree=written.tree))
    (folder / Layout.pack(gone)).chmod(0o600)
    (folder / Layout.pack(gone)).unlink()
    done = becalm("extract", "--to", str(tmp_path / "goal"))
    told = read(becalm("extract", "--to", str(tmp_path / "again"), "--json"))

    assert isinstance(done.exception, PermanentError)
    assert "1 entries are not as they were" in str(done.exception)
    assert [path.name for path in (tmp_path / "goal").iterdir()] == ["there"]
    assert [(one["where"], gone[:12] in one["message"]) for one in told["failures"]] == [("lost", True)]
    assert told["ok"] is False


def test_a_prune_keeps_what_adopted_points_need_and_takes_what_nothing_does() -> None:
    """Snapshots of other makers hold their packs like any, adopted or not; what only a forgotten one needed goes."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    repository, snapshot = a_foreign_repository(store, kept=b"k" * 1000)
    a_foreign_snapshot(repository, more=b"m" * 1000)
    for _ in range(2):
        clock.advance(30 * 86400.0)
        prune(open_repository(store, PASSWORD), who="p", alive=lambda: None)
    whole = check(open_repository(store, PASSWORD), read_data=True)
    packs = keys(store)
    store.delete(Layout.snapshot(snapshot))
    for _ in range(2):
        clock.advance(30 * 86400.0)
        prune(open_repository(store, PASSWORD), who="p", alive=lambda: None, rules=Rules(yes_really=True))

    assert whole == []
    assert {key for key in packs - keys(store) if key.startswith(Layout.DATA)} != set()
    assert check(open_repository(store, PASSWORD), read_data=True) == []
    assert [one.snapshot.paths for one in foreign(repository)] == [("/home/data",)]


def test_a_target_without_a_policy_is_refused_where_something_would_be_made(becalm: Callable[..., Result], folder: Path) -> None:
    """`init` must not make a repository beside the policies' own."""
    done = becalm("init")

    assert isinstance(done.exception, UsageError)
    assert list(folder.iterdir()) == []


def test_a_repository_stays_readable_to_another_opening_after_adoption() -> None:
    """Nothing that opens or lists minds the note."""
    store = MemoryStore()
    repository, snapshot = a_foreign_repository(store)
    adopt(repository, who="ada", now=NOON)

    assert [one.point.id for one in adopted(open_repository(store, PASSWORD))] == [snapshot]
