"""The report of a restore in the bucket: sealed, listed in order, named by the ledger, and never a reason for a restore to fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from becalm.actions import restore_record
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import RestorePlan, RestoreReport, RestoreRequest, Verification, VolumeAction, VolumeStep
from becalm.catalog import ledger
from becalm.errors import ClusterChanged, Damaged
from becalm.model import Finding, MoverResult, VolumeRef, payload
from becalm.repository.crypto import Kdf
from becalm.repository.reader import init_repository, open_repository
from becalm.storage.wrappers import ReadOnly
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.memory_store import MemoryStore

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
LASTED = timedelta(seconds=90)
DATA = VolumeRef(namespace="shop", claim="data")
STEP = VolumeStep(volume=DATA, target=DATA, action=VolumeAction.REPLACE, reason="as asked", tree="t1")
PLAN = RestorePlan(
    policy="shop", point="ab12", tree="t0", cut=NOON, consistency="crash-consistent", complete=True, steps=(), volumes=(STEP,)
)
MOVED = MoverResult(name="m", run="restore-1", volume=DATA, tree="t1", bytes_total=77, seconds=1.5)
VERIFIED = Verification(volumes=1)
REPORT = RestoreReport(policy="shop", point="ab12", run="restore-1", volumes=(MOVED,))


@pytest.fixture
def ports() -> Ports:
    """A bucket with an empty repository."""
    store = MemoryStore()
    init_repository(store, "p", kdf=Kdf(n=16, r=1))
    return Ports(cluster=FakeCluster(), store=store, password="p", clock=FakeClock(), settings=Settings(cluster_name="prod"))


def a_record(
    *, minutes: int = 0, report: RestoreReport = REPORT, verification: Verification | None = VERIFIED
) -> restore_record.RestoreRecord:
    started = NOON + timedelta(minutes=minutes)
    request = RestoreRequest(policy="shop", in_place=True)
    return restore_record.record(
        PLAN, request, report, verification, cluster="prod", started=started, ended=started + LASTED, asked_by="ann", approved_by="bob"
    )


def test_a_report_comes_back_as_it_was_and_in_the_order_of_time(ports: Ports) -> None:
    """Who asked, what for, what became of each volume; the request without what was left at its default."""
    late, early = a_record(minutes=10), a_record(minutes=2)
    assert restore_record.save(late, ports) == restore_record.save(early, ports) == ()
    found = list(restore_record.listed(open_repository(ports.store, "p")))

    assert found == [early, late]
    assert (found[0].ok, found[0].asked_by, found[0].approved_by) == (True, "ann", "bob")
    assert found[0].request == {"policy": "shop", "in_place": True}
    assert [(str(one.volume), one.action, one.bytes) for one in found[0].volumes] == [("shop/data", "replace-data", 77)]
    assert found[0].plan_digest == restore_record.plan_digest(PLAN) != restore_record.plan_digest(replace(PLAN, point="cd34"))


def test_the_ledger_names_it_by_its_digest(ports: Ports) -> None:
    """Who changes a report afterwards is found out."""
    made = a_record()
    restore_record.save(made, ports)
    (entry,) = ledger.newest(open_repository(ports.store, "p"), ledger.EntryKind.RESTORED)

    assert (entry.who, entry.run, entry.content["restore"], entry.content["ok"]) == ("ann", "restore-1", made.id, True)


def test_a_report_is_sealed_and_one_that_was_changed_is_damaged(ports: Ports) -> None:
    """Names of objects and volumes are nobody's business who has no password."""
    made = a_record()
    restore_record.save(made, ports)
    (info,) = ports.store.list("becalm/restores/")
    body = ports.store.get(info.key)
    ports.store.put(info.key, body[:-1] + bytes([body[-1] ^ 1]))

    assert b"shop" not in body
    with pytest.raises(Damaged):
        restore_record.read(open_repository(ports.store, "p"), made.id)


@pytest.mark.parametrize(
    ("report", "verification"),
    [
        (REPORT, None),
        (replace(REPORT, failures=(Finding(where="a", message="b"),)), Verification()),
        (REPORT, Verification(failures=(Finding(where="a", message="b"),))),
    ],
)
def test_only_what_was_verified_is_a_success(report: RestoreReport, verification: Verification | None) -> None:
    """A restore that ended, and was not looked at, is none."""
    assert not a_record(report=report, verification=verification).ok


def test_a_bucket_that_may_only_be_read_is_no_obstacle(ports: Ports) -> None:
    """It is said that there is no report."""
    (finding,) = restore_record.save(a_record(), replace(ports, store=ReadOnly(ports.store)))

    assert "the report of the restore could not be kept" in str(finding)


def a_beginning() -> restore_record.RestoreRecord:
    return restore_record.begun(
        PLAN, RestoreRequest(policy="shop", in_place=True), run="restore-1", cluster="prod", started=NOON, asked_by="ann"
    )


def kept(ports: Ports) -> list[restore_record.RestoreRecord]:
    return list(restore_record.listed(open_repository(ports.store, "p")))


def test_a_restore_that_was_killed_is_remembered_as_unfinished(ports: Ports) -> None:
    """Who asked, for which plan; it is no success, and the ledger does not call it restored."""
    restore_record.save(a_beginning(), ports)
    (found,) = kept(ports)

    assert (found.state, found.ok, found.asked_by) == (restore_record.RestoreState.RUNNING, False, "ann")
    assert found.plan_digest == restore_record.plan_digest(PLAN)
    assert list(ledger.newest(open_repository(ports.store, "p"), ledger.EntryKind.RESTORED)) == []


def test_the_last_report_takes_the_place_of_the_first(ports: Ports) -> None:
    """A restore that ended is listed once."""
    restore_record.save(a_beginning(), ports)
    ended = a_record()
    restore_record.save(ended, ports)

    assert kept(ports) == [ended]
    assert ended.state is restore_record.RestoreState.ENDED


def test_a_restore_that_broke_off_says_why(ports: Ports) -> None:
    """The cluster changed under it: that has ended, badly, and not vanished."""
    restore_record.save(a_beginning(), ports)
    error = ClusterChanged("appeared after the plan was made", where="secrets/shop/tls", hint="make the plan again")
    restore_record.save(restore_record.broken_off(a_beginning(), error, ended=NOON + LASTED), ports)
    (found,) = kept(ports)

    assert (found.state, found.ok, found.ended) == (restore_record.RestoreState.ENDED, False, NOON + LASTED)
    assert [finding.where for finding in found.findings] == ["secrets/shop/tls"]


def test_a_report_from_before_there_were_states_has_ended(ports: Ports) -> None:
    """What an older Becalm wrote says nothing of its state."""
    repository = open_repository(ports.store, "p")
    made = a_record()
    document = {key: value for key, value in payload(made).items() if key != "state"}
    sealed, _ = repository.seal_document(orjson.dumps(document))
    ports.store.put(f"becalm/restores/{made.id}", sealed)

    assert kept(ports) == [made]
