"""Bad input, end to end: each row ends with a typed error that names the place and the remedy, and leaves the world as it was.

Thawed is the application, gone is what was temporary, and nothing is visible in the repository but what was there before.
"""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.contract.stores import Server, a_bucket, s3_server
from tests.integration.bad_world import IMAGE, PASSWORD, Remains, World, a_claim, a_world, document_of, eventually, sound

from becalm.actions import run as verdicts
from becalm.clock import SystemClock
from becalm.errors import (
    AccessDenied,
    BecalmError,
    BucketMissing,
    ClusterUnavailable,
    CutFailed,
    Damaged,
    HookFailed,
    HookMissing,
    LeaseHeld,
    NoRepository,
    NothingSelected,
    OtherRepository,
    PartialCapture,
    StoreFull,
    StoreReadOnly,
    WrongPassword,
)
from becalm.kube import connect
from becalm.kube.kinds import CLAIM, POD, SNAPSHOT
from becalm.kube.pods import PodMover
from becalm.model import Consistency, MoverSpec, VolumeUse
from becalm.repository import lease
from becalm.repository.check import check
from becalm.repository.format import Layout
from becalm.repository.reader import init_repository, open_repository
from becalm.storage import open_store
from becalm.testing.sandbox import SandboxHandle, running_sandbox
from becalm.testing.saved_points import CHEAP

SLACK = 2.0
"""Seconds that a loaded machine may add to a freeze."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxHandle]:
    """One sandbox for all rows."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as handle:
        yield handle


@pytest.fixture
def world(sandbox: SandboxHandle, tmp_path: Path) -> Iterator[World]:
    """Namespaces and a repository of this test alone; nothing is in them yet."""
    made = a_world(sandbox, tmp_path)
    yield made
    sandbox.faults()
    made.end()


@pytest.fixture
def shop(world: World) -> World:
    """A world with one application and an empty repository."""
    world.make_repository()
    world.application()
    return world


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    """A file system of four mebibytes as the target."""
    path = world.folder / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "becalm-test", str(path)], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("this user may not mount a disk")
    world.url = f"file://{path}"
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fails(world: World, wanted: type[BecalmError], run_id: str = "a run", **changes: Any) -> BecalmError:
    """Make a run that must fail with this error, and demand that the error is sound."""
    with pytest.raises(wanted) as caught:
        world.protect(run_id, **changes)
    error = caught.value

    assert type(error) is wanted
    assert sound(error), f"place {error.where!r}, remedy {error.hint!r}, message {error.message!r}"
    return error


def refused_partial(outcome: Any) -> PartialCapture:
    """Demand that a run with a recovery point fails all the same, and return how."""
    with pytest.raises(PartialCapture) as caught:
        verdicts.demand(outcome.verdict)
    return caught.value


# The cluster.


def test_a_cluster_that_does_not_answer(shop: World) -> None:
    """The command says where it asked, in one line and in JSON, and ends with the code of what may go better later."""
    kubeconfig = yaml.safe_load(Path(shop.sandbox.kubeconfig).read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:9"
    broken = shop.folder / "kubeconfig"
    broken.write_text(yaml.safe_dump(kubeconfig))
    done = shop.command("run", str(shop.file()), "--json", KUBECONFIG=str(broken))
    said = document_of(done)

    assert (done.returncode, said["error"], said["ok"]) == (6, "cluster-unavailable", False)
    assert "127.0.0.1:9" in said["where"]
    assert "address" in said["hint"]
    assert shop.remains() == Remains()
    assert lease.read(shop.store) is None


def test_credentials_that_the_cluster_refuses(shop: World) -> None:
    """An expired token is named as such, before anything is begun."""
    kubeconfig = yaml.safe_load(Path(shop.sandbox.kubeconfig).read_text())
    kubeconfig["users"][0]["user"]["token"] = "expired"
    broken = shop.folder / "kubeconfig"
    broken.write_text(yaml.safe_dump(kubeconfig))
    error = fails(shop, AccessDenied, cluster=connect(kubeconfig=str(broken)))

    assert "renew the token" in error.hint
    assert shop.remains() == Remains()
    assert lease.read(shop.store) is None


def test_credentials_that_expire_while_the_application_is_frozen(shop: World) -> None:
    """Nobody can thaw it any more: the switch does, in time, and the error says what could not be confirmed or removed."""
    shop.timeout = "2s"
    expire = shop.at("snapshot", lambda: shop.sandbox.faults(requests=[{"match": "^", "status": 401, "times": 100_000}]))
    with pytest.raises(BecalmError) as caught:
        shop.protect(progress=expire)
    shop.sandbox.faults()
    notes = " ".join(caught.value.__notes__)

    assert sound(caught.value)
    assert "not confirmed thawed" in str(caught.value) + notes
    assert "temporary objects" in notes
    assert shop.frozen() == ()
    assert 0 < shop.longest_freeze() <= 2 + SLACK
    assert shop.protect("the next run").verdict.ok
    assert shop.remains(before=1) == Remains()


def test_a_right_that_is_missing_names_the_right(shop: World) -> None:
    """Snapshots may not be made: the volume is missing from the point, the rest is captured, the run fails."""
    shop.sandbox.faults(requests=[{"match": "^POST .*/volumesnapshots", "status": 403, "times": 1000}])
    outcome = shop.protect()
    error = refused_partial(outcome)

    assert outcome.committed is not None
    assert [finding.where for finding in outcome.committed.missing] == [f"volumes/{shop.namespaces[0]}/data"]
    assert "grant this right" in error.message
    assert shop.remains(before=1) == Remains()


# The selection.


def test_a_namespace_that_does_not_exist(world: World) -> None:
    """Alone it is an error; nothing is an empty recovery point."""
    world.make_repository()
    world.namespaces.append(f"{world.name}-nowhere")
    error = fails(world, NothingSelected)
    done = world.command("run", str(world.file()))

    assert error.where == "spec.select.namespaces"
    assert (done.returncode, done.stderr.splitlines()[-1].startswith("becalm: nothing-selected: ")) == (4, True)
    assert world.remains() == Remains()


def test_a_namespace_that_does_not_exist_beside_one_that_does(shop: World) -> None:
    """The one is captured, the other is named, the run fails with the code of a partial capture."""
    shop.namespaces.append(f"{shop.name}-nowhere")
    done = shop.command("run", str(shop.file()), "--json")
    said = document_of(done)

    assert done.returncode == 5
    assert [item["where"] for item in said["committed"]["missing"]] == [f"namespaces/{shop.name}-nowhere"]
    assert said["verdict"]["ok"] is False
    assert shop.remains(before=1) == Remains()


def test_no_snapshot_class_for_a_volume(shop: World) -> None:
    """The volume is named with what to do; the other one and the objects are captured."""
    namespace = shop.namespaces[0]
    labels = {"storageClassName": "elsewhere", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}
    volume = next(kind for kind in shop.cluster.discover().kinds if kind.resource == "persistentvolumes")
    source = {"csi": {"driver": "other.example.org", "volumeHandle": "x"}}
    shop.create(volume, {"metadata": {"name": f"{shop.name}-pv"}, "spec": {**labels, **source}})
    shop.create(
        CLAIM,
        {
            "metadata": {"name": "odd", "namespace": namespace},
            "spec": {**a_claim("1Gi"), "storageClassName": "elsewhere", "volumeName": f"{shop.name}-pv"},
        },
    )
    eventually(lambda: shop.cluster.get(CLAIM, "odd", namespace=namespace)["status"].get("phase") == "Bound")
    outcome = shop.protect()
    error = refused_partial(outcome)
    shop.cluster.delete(volume, f"{shop.name}-pv")

    assert outcome.committed is not None
    (missing,) = outcome.committed.missing
    assert (missing.where, outcome.committed.volumes) == (f"volumes/{namespace}/odd", 1)
    assert missing.message.startswith("no-snapshot-class: ")
    assert "spec.volumes.rules" in missing.remedy
    assert "no-snapshot-class" in error.message
    assert shop.remains(before=1) == Remains()


# One of several.


def test_one_application_of_several_that_fails(shop: World) -> None:
    """Its hook fails and the policy demands it: the other application is captured, the point says who is missing and why."""
    bad = shop.application("broken")
    shop.freeze = ["sh", "-c", f"{shop.freeze[2]}; test ! -e /data/broken"]
    shop.cluster.exec(bad, "db", container="main", command=["touch", "/data/broken"])
    shop.on_failure = "fail"
    outcome = shop.protect()
    error = refused_partial(outcome)

    assert outcome.committed is not None
    (missing,) = outcome.committed.missing
    assert missing.where == bad
    assert "the freeze failed with exit code 1" in missing.message
    assert (outcome.committed.complete, outcome.committed.volumes) == (False, 1)
    assert "exit code 1" in error.message
    assert shop.remains(before=1) == Remains()


def test_one_volume_of_several_whose_cut_fails(world: World) -> None:
    """One snapshot is refused; the other volume and the objects are captured."""
    world.make_repository()
    world.application(claims=("data", "more"))
    world.sandbox.faults(requests=[{"match": "^POST .*/volumesnapshots", "status": 422, "times": 1}])
    outcome = world.protect()
    refused_partial(outcome)

    assert outcome.committed is not None
    assert (outcome.committed.volumes, len(outcome.committed.missing)) == (1, 1)
    assert "not cut" in outcome.committed.missing[0].message
    assert world.remains(before=1) == Remains()


def test_a_storage_that_cuts_nothing(shop: World) -> None:
    """The objects are captured, the volume is named with the storage's own words, and the freeze is not prolonged."""
    shop.timeout = "2s"
    shop.sandbox.faults(fail_snapshots=1000)
    outcome = shop.protect()
    refused_partial(outcome)

    assert outcome.committed is not None
    assert (outcome.committed.volumes, outcome.committed.consistency) == (0, Consistency.CRASH)
    assert "CreateSnapshot" in outcome.committed.missing[0].message
    assert shop.longest_freeze() <= 2 + SLACK
    assert shop.remains(before=1) == Remains()


def test_one_volume_of_several_whose_mover_ends_without_a_result(world: World) -> None:
    """It is named with the last word of its pod; the other one is captured, and both pods are gone."""
    world.make_repository()
    world.application(claims=("data", "more"))
    outcome = world.protect(movers=Misled(world))
    refused_partial(outcome)

    assert outcome.committed is not None
    (missing,) = outcome.committed.missing
    assert missing.where.endswith("/more")
    assert "the mover left no result" in missing.message
    assert outcome.committed.volumes == 1
    assert world.remains(before=1) == Remains()


class Misled(PodMover):
    """Movers as pods, but that of the volume `more` is told a target that is none: it has no place to leave a result."""

    def __init__(self, world: World) -> None:
        super().__init__(world.cluster, SystemClock(), image=IMAGE, policy=world.name)

    def start(self, spec: MoverSpec) -> str:
        """Start it with another target."""
        return super().start(replace(spec, repository="nothing://at/all") if spec.volume.claim == "more" else spec)


def test_a_volume_that_is_read_live_leaves_no_mover_in_its_namespace(shop: World) -> None:
    """The mover runs beside the application, and goes with all that it needed."""
    shop.spec = {"volumes": {"default": "live"}}
    outcome = shop.protect()

    assert outcome.committed is not None
    assert (outcome.verdict.ok, outcome.committed.consistency) == (True, Consistency.CRASH)
    assert shop.remains(before=1) == Remains()


# The hook.


def test_a_hook_that_fails_where_the_policy_demands_it(shop: World) -> None:
    """Nothing is captured, and what it had frozen before it failed is thawed."""
    shop.freeze = ["sh", "-c", f"{shop.freeze[2]}; echo no such table >&2; exit 3"]
    shop.on_failure = "fail"
    error = fails(shop, HookFailed)

    assert "exit code 3: no such table" in error.message
    assert shop.namespaces[0] in error.where
    assert "onFailure" in error.hint
    assert shop.remains() == Remains()
    assert shop.longest_freeze() > 0


def test_a_hook_that_fails_where_a_crash_consistent_point_will_do(shop: World) -> None:
    """The point is made and says what it is, and why."""
    shop.freeze = ["sh", "-c", f"{shop.freeze[2]}; exit 3"]
    outcome = shop.protect()
    described = json.loads(shop.command("show", str(shop.file()), "--json").stdout)["description"]

    assert outcome.verdict.ok
    assert outcome.committed.consistency is Consistency.CRASH
    assert "exit code 3" in described["consistency"]["reasons"][0]
    assert shop.remains(before=1) == Remains()


def test_a_hook_that_hangs_where_the_policy_demands_it(shop: World) -> None:
    """The switch ends it within its time."""
    shop.timeout, shop.on_failure = "2s", "fail"
    shop.freeze = ["sh", "-c", f"{shop.freeze[2]}; sleep 60"]
    error = fails(shop, HookFailed)

    assert "did not end within its time" in error.message
    assert shop.longest_freeze() <= 2 + SLACK
    assert shop.remains() == Remains()


def test_a_hook_that_hangs_where_a_crash_consistent_point_will_do(shop: World) -> None:
    """The point is made after the switch has thawed."""
    shop.timeout = "2s"
    shop.freeze = ["sh", "-c", f"{shop.freeze[2]}; sleep 60"]
    outcome = shop.protect()

    assert outcome.verdict.ok
    assert outcome.committed.consistency is Consistency.CRASH
    assert shop.longest_freeze() <= 2 + SLACK
    assert shop.remains(before=1) == Remains()


def test_a_hook_whose_container_is_gone(shop: World) -> None:
    """The policy names a container that no pod has: strictly an error, else a crash-consistent point with the reason."""
    shop.container, shop.on_failure = "sidecar", "fail"
    error = fails(shop, HookMissing)
    strict = shop.remains()
    shop.on_failure = "crash-consistent"
    outcome = shop.protect("another run")

    assert "sidecar" in error.message
    assert strict == Remains()
    assert outcome.verdict.ok
    assert outcome.committed.consistency is Consistency.CRASH
    assert shop.remains(before=1) == Remains()


def test_a_hook_whose_pod_is_gone(shop: World) -> None:
    """Strictly an error, with the place of the hook in the policy."""
    shop.cluster.delete(POD, "db", namespace=shop.namespaces[0], grace_seconds=0)
    eventually(lambda: not list(shop.cluster.list(POD, namespace=shop.namespaces[0])))
    shop.on_failure = "fail"
    error = fails(shop, HookMissing)

    assert "spec.quiesce.hooks.0" in error.where
    assert shop.remains() == Remains()


def test_a_pod_that_goes_while_it_is_frozen(shop: World) -> None:
    """There is nothing left to thaw; the point does not claim that the freeze held."""
    namespace = shop.namespaces[0]
    go = shop.at("snapshot", lambda: shop.cluster.delete(POD, "db", namespace=namespace, grace_seconds=0))
    outcome = shop.protect(progress=go)

    assert outcome.committed.consistency is Consistency.CRASH
    assert shop.remains(before=1) == Remains()


# The repository.


def test_a_wrong_password(shop: World) -> None:
    """Said before the cluster is touched."""
    error = fails(shop, WrongPassword, password="another")

    assert shop.repository_url in error.where
    assert shop.remains() == Remains()
    assert lease.read(shop.store) is None


def test_a_target_without_a_repository(world: World) -> None:
    """The remedy is the command that makes one."""
    world.application()
    open_store(world.repository_url, {}, create=True)
    error = fails(world, NoRepository)

    assert "becalm init" in error.hint
    assert (world.frozen(), world.leftovers()) == ((), ())
    assert list(world.store.list("")) == []


def test_a_folder_that_is_missing_is_not_made(world: World) -> None:
    """A disk that is not mounted must not become a backup on the root disk."""
    world.application()
    error = fails(world, BucketMissing)

    assert "mount" in error.hint
    assert (world.frozen(), world.leftovers()) == ((), ())
    assert not (world.folder / "target").exists()


def test_something_else_at_the_target(world: World) -> None:
    """Other people's files are named, and left as they are."""
    world.application()
    open_store(world.repository_url, {}, create=True).put("holiday/picture.jpg", b"sun")
    error = fails(world, OtherRepository)

    assert "holiday/picture.jpg" in error.message
    assert [info.key for info in world.store.list("")] == ["holiday/picture.jpg"]
    assert (world.frozen(), world.leftovers()) == ((), ())


def test_a_repository_that_is_replaced_while_a_run_is_at_work(shop: World) -> None:
    """The run began with another one: it writes nothing visible into the new one."""

    def replaced() -> None:
        target = shop.folder / "target" / shop.name
        held = shop.store.get(Layout.LEASE)
        target.rename(shop.folder / "old")
        shop.make_repository()
        shop.store.put(Layout.LEASE, held)

    error = fails(shop, OtherRepository, progress=shop.at("commit", replaced))

    assert "stands there now" in error.message
    assert shop.remains() == Remains()


def test_a_config_that_is_damaged(shop: World) -> None:
    """Neither trusted nor overwritten."""
    shop.store.put("config", b"not what it was")
    with pytest.raises(BecalmError) as caught:
        shop.protect()

    assert type(caught.value) in (Damaged, OtherRepository)
    assert sound(caught.value)
    assert (shop.frozen(), shop.leftovers(), shop.store.get("config")) == ((), (), b"not what it was")


def test_a_target_that_is_read_only(world: World, small_disk: Path) -> None:
    """Said when the lease cannot be taken: before anything is frozen."""
    world.make_repository()
    world.application()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    error = fails(world, StoreReadOnly)

    assert "mount it for writing" in error.hint
    assert world.remains() == Remains()
    assert world.longest_freeze() == 0


def test_a_disk_that_is_full_during_the_upload(world: World, small_disk: Path) -> None:
    """No volume's fault: nothing becomes visible, and with more room the same run succeeds."""
    world.make_repository()
    world.application(megabytes=6)
    error = fails(world, StoreFull)
    after = world.remains()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    outcome = world.protect()

    assert "mend the target" in error.hint
    assert after == Remains()
    assert outcome.verdict.ok
    assert world.remains(before=1) == Remains()
    assert check(open_repository(world.store, PASSWORD), read_data=True) == []


def test_a_disk_that_is_full_at_the_commit(world: World, small_disk: Path) -> None:
    """Not one block is left, not even for the lease: thawed and removed is everything all the same."""
    world.make_repository()
    world.application()
    filler = small_disk / "filler"
    error = fails(world, StoreFull, progress=world.at("commit", lambda: fill(filler)))
    after = world.remains()
    filler.unlink()
    outcome = world.protect()

    assert "make room" in error.hint
    assert after == Remains()
    assert outcome.verdict.ok
    assert world.remains(before=1) == Remains()


def fill(path: Path) -> None:
    """Take every block that is left."""
    with pytest.raises(OSError, match="No space left"), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


# S3.


@pytest.fixture
def bucket(s3_server: Server, world: World) -> Iterator[World]:
    """A world with one application whose repository is in a bucket."""
    with a_bucket(s3_server) as name:
        world.url = f"s3://{name}/backups"
        world.credentials = s3_server.credentials()
        world.make_repository()
        world.application()
        yield world


@pytest.mark.s3
def test_a_bucket_that_is_missing(bucket: World) -> None:
    """It is named, and not made."""
    store = open_store(f"s3://becalm-missing-{uuid.uuid4().hex[:8]}/x", bucket.credentials)
    error = fails(bucket, BucketMissing, store=store)

    assert "there is no bucket" in error.message
    assert bucket.remains() == Remains()


@pytest.mark.s3
def test_keys_that_the_server_refuses(bucket: World) -> None:
    """Said before anything is frozen; when only the movers have them, nothing becomes visible either."""
    keys = {**bucket.credentials, "AWS_SECRET_ACCESS_KEY": "wrong"}
    early = fails(bucket, AccessDenied, store=open_store(bucket.repository_url, keys))
    settings = replace(bucket.ports().settings, store_environment=keys)
    late = fails(bucket, AccessDenied, run_id="another run", settings=settings)

    assert "check the access key" in early.hint
    assert "the secret is wrong" in late.message
    assert bucket.remains() == Remains()


@pytest.mark.s3
def test_a_user_that_may_only_read(bucket: World, s3_server: Server) -> None:
    """Its run ends before anything is frozen."""
    name = bucket.url.split("/")[2]
    user, secret = f"user-{uuid.uuid4().hex[:8]}", "user-secret-key"
    s3_server.make_user(user, secret)
    client = s3_server.client()
    may = {"Effect": "Allow", "Principal": {"AWS": [user]}, "Action": ["s3:GetObject", "s3:ListBucket"]}
    client.put_bucket_policy(
        Bucket=name, Policy=json.dumps({"Statement": [{**may, "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]}]})
    )
    try:
        keys = {**bucket.credentials, "AWS_ACCESS_KEY_ID": user, "AWS_SECRET_ACCESS_KEY": secret}
        fails(bucket, StoreReadOnly, store=open_store(bucket.repository_url, keys))
    finally:
        client.delete_bucket_policy(Bucket=name)
        s3_server.remove_user(user)
        client.close()

    assert bucket.remains() == Remains()
    assert bucket.longest_freeze() == 0


# The lease.


def test_a_lease_that_another_run_holds(shop: World) -> None:
    """The second run ends at once and says until when; the first is unharmed; after its end the second goes on."""
    held = lease.take(shop.store, policy=shop.name, run="0123456789", seconds=600)
    began = time.monotonic()
    error = fails(shop, LeaseHeld)
    seconds = time.monotonic() - began
    still = lease.read(shop.store)
    done = shop.command("run", str(shop.file()), "--json")
    outcome = shop.protect(store=open_store(shop.repository_url, {}, clock=Later()))

    assert seconds < 5
    assert still == held
    assert "0123456789" in error.message
    assert error.delay_seconds == pytest.approx(600, abs=10)
    assert (done.returncode, document_of(done)["error"]) == (6, "lease-held")
    assert outcome.begun.epoch == held.epoch + 1
    assert outcome.committed is not None


class Later(SystemClock):
    """The machine's clock, twenty minutes ahead: every lease has expired."""

    def now(self) -> Any:
        """Return the time to come."""
        return super().now() + timedelta(minutes=20)


# A run that is killed.


@contextmanager
def killed(world: World, words: str, number: signal.Signals = signal.SIGKILL) -> Iterator[subprocess.Popen[str]]:
    """Run the command line until it says these words, and kill it."""
    with world.running("a run") as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith(words):
                break
        else:
            pytest.fail(f"the run never said {words!r}")
        if words == "snapshot":
            eventually(world.frozen)
        process.send_signal(number)
        process.wait(30)
        yield process


def test_a_run_that_is_killed_while_the_application_is_frozen(shop: World) -> None:
    """The switch thaws it in time; the same run takes up where it was, at once, and removes what was left."""
    shop.timeout = "3s"
    shop.sandbox.faults(cut_seconds=2)
    with killed(shop, "snapshot"):
        still = shop.frozen()
    eventually(lambda: not shop.frozen())
    shop.sandbox.faults()
    fails(shop, LeaseHeld, "another run")
    outcome = shop.protect("a run")

    assert still == tuple(shop.namespaces)
    assert shop.longest_freeze() <= 3 + SLACK
    assert outcome.verdict.ok
    assert shop.remains(before=1) == Remains()


@pytest.mark.parametrize("words", ["export", "upload", "commit", "prune"])
def test_a_run_that_is_killed_later(shop: World, words: str) -> None:
    """Whatever it left is swept by the next run once the lease has ended."""
    with killed(shop, words):
        left, visible = shop.leftovers(), len(shop.points())
    outcome = shop.protect("the next run", store=open_store(shop.repository_url, {}, clock=Later()))

    assert left != ()
    assert visible == (1 if words == "prune" else 0)
    assert outcome.committed is not None
    assert outcome.committed.complete
    assert shop.remains(before=visible + 1) == Remains()
    assert check(open_repository(shop.store, PASSWORD), read_data=True) == []


def test_a_run_that_is_told_to_end(shop: World) -> None:
    """SIGTERM: it thaws, removes, lets go of the lease, and says so; the next run need not wait."""
    shop.sandbox.faults(cut_seconds=1)
    with killed(shop, "snapshot", signal.SIGTERM) as process:
        said = process.stderr.read()
    shop.sandbox.faults()

    assert process.returncode == 128 + signal.SIGTERM
    assert "interrupted" in said
    assert "Traceback" not in said
    assert shop.remains() == Remains()
    assert lease.read(shop.store).released
    assert shop.protect("the next run").verdict.ok


def test_a_policy_file_that_is_removed_while_its_run_is_at_work(shop: World) -> None:
    """The run goes on with the policy that it began with."""
    path = shop.file()
    with shop.running("a run") as process:
        next(line for line in process.stderr if line.startswith("quiesce"))
        path.unlink()
        process.stderr.read()
        process.wait(30)

    assert process.returncode == 0
    assert shop.remains(before=1) == Remains()
