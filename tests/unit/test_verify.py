"""Verifying in shares: what is due follows from the ledger, every byte gets its turn, and damages stay open until they are mended."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from becalm.actions import verify
from becalm.actions.verify import PackInfo, Wanted
from becalm.catalog import ledger, verified
from becalm.catalog.verified import Known
from becalm.cli.app import app
from becalm.errors import AccessDenied, BecalmError, Damaged
from becalm.kube.base import Kind
from becalm.repository.check import examine
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository
from becalm.storage.base import Body, ETag
from becalm.storage.directory import DirectoryStore
from becalm.storage.wrappers import Wrapper
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import PASSWORD, save_point

DAY = timedelta(days=1)
PERIOD = 30 * DAY


def pack(number: int) -> str:
    """The id of a made-up pack."""
    return sha256(str(number).encode()).hexdigest()


def known(read: dict[str, datetime], *, last: datetime | None = None) -> Known:
    """What a ledger says."""
    return Known(read={bytes.fromhex(one)[:16]: int(when.timestamp()) for one, when in read.items()}, last=last)


def written(*ages: float, size: int = 100) -> dict[str, PackInfo]:
    """Packs, written so many days ago."""
    return {pack(number): PackInfo(size=size, modified=NOON - age * DAY) for number, age in enumerate(ages)}


def test_what_waits_longer_than_the_period_is_due_oldest_first() -> None:
    """Since its last reading, or since it was written."""
    packs = written(100, 40, 10, 90)
    share = verify.plan(packs, known({pack(3): NOON - 35 * DAY, pack(0): NOON - 2 * DAY}, last=NOON), now=NOON, period=PERIOD)

    assert share.packs == (pack(1), pack(3))
    assert (share.due, share.bytes, share.left) == (2, 200, 0)


def test_of_one_second_what_was_never_read_comes_first() -> None:
    """The ledger knows whole seconds: a pack that was read in the second in which another was written does not wait longer."""
    packs = {pack(number): PackInfo(size=100, modified=NOON + timedelta(seconds=0.4)) for number in (0, 1)}
    for read, unread in ((0, 1), (1, 0)):
        said = known({pack(read): NOON + timedelta(seconds=0.9)}, last=NOON)
        share = verify.plan(packs, said, now=NOON + DAY, period=timedelta(seconds=1), max_bytes=100)

        assert share.packs == (pack(unread),)


def test_what_becomes_due_before_the_next_run_is_read_now() -> None:
    """The next run is as far away as the last."""
    packs = written(29.5, 1)

    assert pack(0) not in verify.plan(packs, known({}, last=NOON), now=NOON, period=PERIOD).packs
    assert verify.plan(packs, known({}, last=NOON - DAY), now=NOON, period=PERIOD).packs == (pack(0),)


def test_each_run_reads_at_least_what_keeps_pace() -> None:
    """A tenth of the bytes where a run comes ten times in a period."""
    packs = written(*[1.0] * 50)
    share = verify.plan(packs, known({}, last=NOON - 3 * DAY), now=NOON, period=PERIOD)

    assert (len(share.packs), share.due) == (5, 0)


def test_a_bound_holds_and_says_what_is_left() -> None:
    """A pack that is larger than the bound is read all the same: else it never would be."""
    packs = written(50, 40, 60)
    bounded = verify.plan(packs, known({}, last=NOON - DAY), now=NOON, period=PERIOD, max_bytes=250)
    tiny = verify.plan(packs, known({}, last=NOON - DAY), now=NOON, period=PERIOD, max_bytes=1)

    assert (bounded.packs, bounded.left) == ((pack(2), pack(0)), 1)
    assert (tiny.packs, tiny.left) == ((pack(2),), 2)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=40),
    st.lists(st.floats(0.2, 9), min_size=20, max_size=20),
)
def test_every_pack_is_read_once_within_the_period(sizes: list[int], pauses: list[float]) -> None:
    """However irregular the runs are: never is a pack older than the period plus the longest pause."""
    packs = {pack(number): PackInfo(size=size, modified=NOON) for number, size in enumerate(sizes)}
    read: dict[str, datetime] = {}
    now, last = NOON, None
    for pause in pauses:
        now += pause * DAY
        for one in verify.plan(packs, known(read, last=last), now=now, period=PERIOD).packs:
            read[one] = now
        last = now

        assert all(now - read.get(one, NOON) <= PERIOD + 1 * DAY for one in packs)


def test_the_same_ledger_gives_the_same_share() -> None:
    """Nothing is left to chance."""
    packs = written(*[5.0] * 30)
    backwards = dict(reversed(packs.items()))
    said = known({pack(4): NOON - DAY}, last=NOON - DAY)

    assert verify.plan(packs, said, now=NOON, period=PERIOD) == verify.plan(backwards, said, now=NOON, period=PERIOD)


KINDS: list[Kind] = []


class Scene:
    """A repository of several packs under a clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)
        self.points = [self.save(number) for number in range(4)]

    def save(self, number: int) -> str:
        """Write a point with a pack of its own."""
        return save_point(
            self.store, [], kinds=KINDS, volumes={"shop/data": {f"file-{number}": bytes([number]) * 5000}}, cut=NOON + number * DAY
        ).id

    def run(self, **wanted: object) -> verify.Verified:
        """Verify now."""
        return verify.execute(self.store, PASSWORD, Wanted(**wanted), who="test", clock=self.clock)  # type: ignore[arg-type]

    def known(self) -> Known:
        """What the ledger says."""
        return verified.load(open_repository(self.store, PASSWORD))

    def data_packs(self) -> list[str]:
        """The packs that the structure does not need."""
        structure = set(examine(open_repository(self.store, PASSWORD)).verified)
        return sorted(set(verify.listed(self.store)) - structure)


def test_what_a_run_read_stands_in_the_ledger() -> None:
    """With the time at which the run began; the next run does not read it again."""
    scene = Scene()
    scene.clock.advance(40 * 86400)
    first = scene.run(period=PERIOD)
    scene.clock.advance(60)
    second = scene.run(period=PERIOD)

    assert first.packs_read == first.packs == len(verify.listed(scene.store))
    assert {scene.known().when(one) for one in scene.data_packs()} <= {NOON + 40 * DAY, NOON + 40 * DAY + timedelta(minutes=1)}
    assert second.share is not None
    assert (second.share.due, second.damages) == (0, ())


def test_what_a_run_could_not_finish_is_due_next_time() -> None:
    """However small its bound is, in the end all is read."""
    scene = Scene()
    scene.clock.advance(40 * 86400)
    waiting = len(scene.data_packs())
    left = []
    for _ in range(waiting):
        share = scene.run(period=PERIOD, max_bytes=1).share
        assert share is not None
        left.append(share.left)
        scene.clock.advance(60)

    assert verify.status(scene.store, PASSWORD).unread_packs == 0
    assert left[0] > left[-1]


def test_a_run_without_time_still_proves_the_structure() -> None:
    """And reads no data."""
    scene = Scene()
    found = scene.run(read_data=True, for_seconds=0.0)

    assert (found.points, found.damages) == (4, ())
    assert found.packs_read == found.packs - len(scene.data_packs())


def test_the_state_of_a_long_ledger_needs_few_objects() -> None:
    """Every so often an entry holds the whole, also what runs long before it read."""
    scene = Scene()
    scene.run(read_data=True)
    for _ in range(3 * verified.SUMMARY_EVERY):
        scene.clock.advance(60)
        scene.run()
    repository = open_repository(scene.store, PASSWORD)
    entries = list(ledger.newest(repository, ledger.EntryKind.VERIFIED))
    summaries = [place for place, entry in enumerate(entries) if "summary" in entry.content]

    assert max(b - a for a, b in itertools.pairwise(summaries)) <= verified.SUMMARY_EVERY
    assert summaries[0] < verified.SUMMARY_EVERY
    assert scene.known().when(scene.data_packs()[0]) == NOON


def test_a_damage_stays_open_until_its_pack_was_read_and_is_whole() -> None:
    """A run that does not look at the pack does not close it."""
    scene = Scene()
    key = Layout.pack(scene.data_packs()[0])
    whole = scene.store.get(key)
    scene.store.tamper(key, whole[:-60] + bytes(60))
    found = scene.run(read_data=True)
    scene.clock.advance(3600)
    scene.run()
    open_then = verify.status(scene.store, PASSWORD).damages
    scene.store.tamper(key, whole)
    scene.run(read_data=True)

    assert found.damages
    assert {damage.where for damage in open_then} == {f"memory://store/{key}"}
    assert {damage.since for damage in open_then} == {NOON}
    assert verify.status(scene.store, PASSWORD).damages == ()


def test_a_pack_with_damage_is_due_again() -> None:
    """It was not verified."""
    scene = Scene()
    scene.clock.advance(40 * 86400)
    bad = scene.data_packs()[0]
    scene.store.tamper(Layout.pack(bad), scene.store.get(Layout.pack(bad))[:-60] + bytes(60))
    scene.run(period=PERIOD)
    scene.clock.advance(60)
    again = scene.run(period=PERIOD)

    assert again.share is not None
    assert (again.share.packs[:1], again.share.due) == ((bad,), 1)
    assert again.damages


def test_a_point_that_goes_without_a_word_is_named() -> None:
    """Until the ledger says who forgot it."""
    scene = Scene()
    scene.run()
    gone = scene.points[1]
    scene.store.delete(Layout.snapshot(gone))
    first, second = scene.run(), scene.run()
    ledger.append(open_repository(scene.store, PASSWORD), "forgotten", {"points": [{"point": gone}]}, who="me")
    third, fourth = scene.run(), scene.run()

    assert [damage.where for damage in first.damages] == [f"memory://store/{Layout.snapshot(gone)}"]
    assert second.damages == first.damages
    assert third.damages == fourth.damages == ()


def test_a_broken_ledger_is_a_damage_and_no_obstacle() -> None:
    """The structure is read all the same, and the next entry is written."""
    scene = Scene()
    scene.run()
    scene.run()
    scene.store.delete(Layout.ledger(1))
    missing = scene.run()
    scene.store.tamper(Layout.ledger(3), b"x")
    changed = scene.run()

    assert [damage.where for damage in missing.damages] == [f"memory://store/{Layout.ledger(1)}"]
    assert f"memory://store/{Layout.ledger(3)}" in [damage.where for damage in changed.damages]
    assert (changed.points, changed.entry) == (4, 4)


class _ReadOnlyKeys(Wrapper):
    """Credentials that may not write."""

    def put(self, key: str, body: Body, **more: object) -> ETag:  # type: ignore[override]
        """Refuse."""
        raise AccessDenied("not yours", where=key)


def test_credentials_that_only_read_can_verify() -> None:
    """The ledger is not written, and that is told."""
    scene = Scene()
    found = verify.execute(_ReadOnlyKeys(scene.store), PASSWORD, Wanted(read_data=True), who="test", clock=scene.clock)

    assert (found.damages, found.entry) == ((), 0)
    assert "the ledger could not be written" in found.note


def test_a_check_of_some_points_says_nothing_of_the_others() -> None:
    """Open damages stay, and no point is missed."""
    scene = Scene()
    scene.store.delete(Layout.pack(scene.data_packs()[0]))
    scene.run()
    scene.run(snapshots=(scene.points[0],))

    assert scene.known().points == set(scene.points)
    assert len(verify.status(scene.store, PASSWORD).damages) == 1


@pytest.fixture
def folder(tmp_path, monkeypatch) -> str:  # type: ignore[no-untyped-def]
    """A repository in a folder."""
    monkeypatch.setenv("BECALM_PASSWORD", PASSWORD)
    store = DirectoryStore(tmp_path / "shop")
    store.make_folder()
    save_point(store, [], kinds=KINDS, volumes={"shop/data": {"file": b"x" * 5000}})
    return f"file://{tmp_path}"


def run_command(*arguments: str) -> tuple[int, str, BaseException | None]:
    """Run becalm as a user does."""
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.exception


def test_the_command_says_what_was_proved(folder: str) -> None:
    """And its status tells when."""
    place = ["--target", folder, "--policy", "shop"]
    structure = run_command("verify", *place)
    everything = run_command("verify", *place, "--read-data")
    status = run_command("verify", *place, "--status")

    assert (structure[0], everything[0], status[0]) == (0, 0, 0)
    assert "the structure of 1 recovery points is whole" in structure[1]
    assert "every byte of 1 recovery points is whole" in everything[1]
    assert "0 of them, 0 B, were never read" in status[1]


def test_the_command_ends_with_seven_on_damage(folder: str) -> None:
    """With the object and what it harms; as JSON too."""
    from pathlib import Path  # noqa: PLC0415

    root = Path(folder.removeprefix("file://")) / "shop"
    for one in (root / "data").rglob("*"):
        if one.is_file():
            one.chmod(0o600)
            one.unlink()
    place = ["--target", folder, "--policy", "shop"]
    code, said, error = run_command("verify", *place)
    json_code, document, _ = run_command("verify", *place, "--json")

    assert isinstance(error, Damaged)
    assert "the pack is not there" in said
    assert "harms" in said
    assert (json_code, '"ok": false' in document, '"harms"' in document) == (7, True, True)
    assert code == 1  # the error itself: `run` gives it its exit code


@pytest.mark.parametrize(
    "wrong",
    [["--rotate", "often"], ["--max-bytes", "5Gi"], ["--rotate", "30d", "--max-bytes", "much"], ["--rotate", "30d", "--snapshot", "ab"]],
)
def test_what_cannot_be_meant_is_refused(folder: str, wrong: list[str]) -> None:
    """Before anything is read."""
    _, _, error = run_command("verify", "--target", folder, "--policy", "shop", *wrong)

    assert isinstance(error, BecalmError)
    assert error.code == "usage"


def test_times_are_those_of_utc() -> None:
    """A ledger is read the same everywhere."""
    assert known({pack(1): datetime(2026, 1, 1, tzinfo=UTC)}).when(pack(1)) == datetime(2026, 1, 1, tzinfo=UTC)
