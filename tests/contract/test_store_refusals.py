"""What a real store refuses, and how it is told: every row with its typed error, the place and the remedy."""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import json
import os
import socket
import socketserver
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from tests.contract.stores import Server, a_bucket, a_prefix, empty, moto_bucket, moto_server, s3_bucket, s3_locking_bucket, s3_server

from becalm.clock import SystemClock
from becalm.errors import AccessDenied, BucketMissing, NotFound, StoreFull, StoreReadOnly, StoreUnavailable
from becalm.storage import open_store
from becalm.storage.base import Span
from becalm.storage.directory import DirectoryStore
from becalm.storage.wrappers import Retrying

ACTS = {
    "get": lambda store: store.get("key"),
    "get a span": lambda store: store.get("key", Span(offset=0, length=1)),
    "head": lambda store: store.head("key"),
    "list": lambda store: list(store.list("")),
    "put": lambda store: store.put("key", b"body"),
    "put if absent": lambda store: store.put("new", b"body", if_absent=True),
    "delete": lambda store: store.delete("key"),
    "retain": lambda store: store.retain("key", store.now().replace(year=2099)),
}
every_act = pytest.mark.parametrize("act", ACTS.values(), ids=ACTS.keys())


@pytest.fixture(params=[pytest.param("real", marks=pytest.mark.s3), "moto"])
def server(request: pytest.FixtureRequest) -> Server:
    """The real server and, in what it is faithful in, moto."""
    return request.getfixturevalue("s3_server" if request.param == "real" else "moto_server")


@every_act
def test_a_bucket_that_is_missing_is_named(server: Server, act) -> None:
    """Whatever is asked of it, and nothing is made."""
    name = f"becalm-missing-{uuid.uuid4().hex[:8]}"

    with pytest.raises(BucketMissing, match=f"there is no bucket '{name}'") as caught:
        act(server.store(name, "prefix"))
    assert "becalm init" in caught.value.hint
    assert name not in [bucket["Name"] for bucket in server.client().list_buckets()["Buckets"]]


@pytest.mark.s3
@every_act
@pytest.mark.parametrize(
    ("keys", "said"),
    [({"access_key": "nobody"}, "does not know this access key"), ({"secret_key": "wrong"}, "the secret is wrong")],
    ids=["unknown key", "wrong secret"],
)
def test_credentials_that_are_refused_are_said_so(s3_server: Server, s3_bucket: str, act, keys: dict[str, str], said: str) -> None:
    """Also where the server's answer has no body to say why."""
    with pytest.raises(AccessDenied, match=said) as caught:
        act(s3_server.store(s3_bucket, "prefix", **keys))
    assert "check the access key" in caught.value.hint


@contextmanager
def _a_user(server: Server, bucket: str, *actions: str) -> Iterator[dict[str, str]]:
    """Make a user that may do this and nothing else in a bucket."""
    name, secret = f"user-{uuid.uuid4().hex[:8]}", "user-secret-key"
    server.make_user(name, secret)
    allowed = {
        "Effect": "Allow",
        "Principal": {"AWS": [name]},
        "Action": list(actions),
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    client = server.client()
    try:
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [allowed]}))
        yield {"access_key": name, "secret_key": secret}
        client.delete_bucket_policy(Bucket=bucket)
    finally:
        server.remove_user(name)
        client.close()


@pytest.mark.s3
def test_a_reader_reads_and_its_writes_are_read_only(s3_server: Server) -> None:
    """Reading works with the same store; each refused change names the remedy."""
    with a_bucket(s3_server) as bucket, _a_user(s3_server, bucket, "s3:GetObject", "s3:ListBucket") as keys:
        s3_server.store(bucket).put("key", b"body")
        reader = s3_server.store(bucket, **keys)

        assert reader.get("key") == b"body"
        assert [info.key for info in reader.list("")] == ["key"]
        for act in (lambda: reader.put("key", b"x"), lambda: reader.put("new", b"x", if_absent=True)):
            with pytest.raises(StoreReadOnly, match="may read the bucket but not write"):
                act()
        with pytest.raises(AccessDenied, match="delete"):
            reader.delete("key")
        assert reader.get("key") == b"body"


@pytest.mark.s3
def test_a_writer_that_may_not_delete_is_told_so(s3_server: Server) -> None:
    """It writes and reads."""
    with a_bucket(s3_server) as bucket, _a_user(s3_server, bucket, "s3:GetObject", "s3:ListBucket", "s3:PutObject") as keys:
        writer = s3_server.store(bucket, **keys)
        writer.put("key", b"body", if_absent=True)

        with pytest.raises(AccessDenied, match="delete"):
            writer.delete("key")
        assert writer.get("key") == b"body"


@pytest.mark.s3
def test_a_stranger_is_denied(s3_server: Server) -> None:
    """A user of the server without any right in the bucket."""
    with a_bucket(s3_server) as other, a_bucket(s3_server) as bucket, _a_user(s3_server, other, "s3:GetObject") as keys:
        s3_server.store(bucket).put("key", b"body")
        stranger = s3_server.store(bucket, **keys)

        for act in ACTS.values():
            with pytest.raises(AccessDenied, match="may not read the bucket"):
                act(stranger)


@pytest.mark.s3
def test_in_a_versioned_bucket_keys_that_may_not_remove_versions_hide_the_object(s3_server: Server) -> None:
    """What they delete is gone for everybody who reads, and its owner can bring it back; a lock they cannot pass."""
    rights = ("s3:GetObject", "s3:GetObjectRetention", "s3:ListBucket", "s3:PutObject", "s3:DeleteObject")
    with a_bucket(s3_server, object_lock=True) as bucket, _a_user(s3_server, bucket, *rights) as keys:
        owner, writer = s3_server.store(bucket), s3_server.store(bucket, **keys)
        owner.put("key", b"body")
        writer.delete("key")
        versions = s3_server.client().list_object_versions(Bucket=bucket)

        with pytest.raises(NotFound):
            owner.head("key")
        assert len(versions["Versions"]) == 1
        owner.put("locked", b"body", retain_until=owner.now().replace(microsecond=0) + timedelta(seconds=3))
        with pytest.raises(AccessDenied, match="locked until"):
            writer.delete("locked")
        assert owner.get("locked") == b"body"


@pytest.mark.s3
def test_a_deletion_in_a_versioned_bucket_leaves_no_data_behind(s3_server: Server, s3_locking_bucket: str) -> None:
    """The only version goes for good: nothing is paid for what was forgotten."""
    prefix = a_prefix()
    store = s3_server.store(s3_locking_bucket, prefix)
    store.put("key", b"body")
    store.delete("key")

    versions = s3_server.client().list_object_versions(Bucket=s3_locking_bucket, Prefix=prefix)
    assert "Versions" not in versions
    assert "DeleteMarkers" not in versions


@pytest.mark.s3
def test_creating_a_target_makes_the_bucket_once(s3_server: Server) -> None:
    """With object lock if the policy locks; again is fine."""
    name = f"becalm-created-{uuid.uuid4().hex[:8]}"
    client = s3_server.client()
    try:
        for _ in range(2):
            store = open_store(f"s3://{name}/prefix", s3_server.credentials(), create=True, lock="governance")
        until = store.now() + timedelta(seconds=2)
        store.put("key", b"body", retain_until=until)

        assert store.head("key").retain_until is not None
        assert client.get_object_retention(Bucket=name, Key="prefix/key")["Retention"]["Mode"] == "GOVERNANCE"
    finally:
        empty(client, name)
        client.delete_bucket(Bucket=name)


@contextmanager
def _wire(endpoint: str, spoil: Callable[[str, bytes], bytes | None]) -> Iterator[str]:
    """Stand between a client and a server: `spoil` sees each piece ("up" or "down") and returns what goes on; nothing cuts the wire."""
    host, _, port = endpoint.removeprefix("http://").partition(":")

    def pump(source: socket.socket, drain: socket.socket, way: str) -> None:
        try:
            while (piece := source.recv(1 << 16)) and (passed := spoil(way, piece)) is not None:
                drain.sendall(passed)
        except OSError:
            return
        finally:
            for end in (source, drain):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as upstream:
                back = threading.Thread(target=pump, args=(upstream, self.request, "down"))
                back.start()
                pump(self.request, upstream, "up")
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.s3
def test_bytes_that_were_damaged_on_their_way_are_not_stored(s3_server: Server, s3_bucket: str) -> None:
    """One wrong byte in a pack: the server finds it, and trying again is right."""
    spoilt: list[bytes] = []

    def spoil(way: str, piece: bytes) -> bytes:
        if way == "up" and b"MARK" in piece:
            spoilt.append(piece)
            return piece.replace(b"MARK", b"MARX")
        return piece

    prefix, body = a_prefix(), b"x" * 100_000 + b"MARK" + b"x" * 100_000
    with _wire(s3_server.endpoint, spoil) as endpoint:
        store = s3_server.store(s3_bucket, prefix, endpoint=endpoint)
        with pytest.raises(StoreUnavailable, match="damaged on their way"):
            store.put("key", body)
        store.close()

    assert spoilt
    with pytest.raises(NotFound):
        s3_server.store(s3_bucket, prefix).head("key")


@pytest.mark.s3
@pytest.mark.parametrize("after", [0, 1, 100, 200_000])
def test_an_object_that_breaks_off_on_its_way_is_no_answer(s3_server: Server, s3_bucket: str, after: int) -> None:
    """Before the first byte, within the headers, within the body."""
    passed = [0]

    def spoil(way: str, piece: bytes) -> bytes | None:
        if way == "up":
            return piece
        passed[0] += len(piece)
        return piece if passed[0] <= after else None

    prefix = a_prefix()
    s3_server.store(s3_bucket, prefix).put("key", b"x" * 1_000_000)
    with _wire(s3_server.endpoint, spoil) as endpoint:
        store = s3_server.store(s3_bucket, prefix, endpoint=endpoint)
        for span in (None, Span(offset=10, length=900_000)):
            passed[0] = 0
            with pytest.raises(StoreUnavailable):
                store.get("key", span)
        store.close()


@pytest.mark.s3
def test_a_put_whose_reply_was_lost_succeeds_when_tried_again(s3_server: Server, s3_bucket: str) -> None:
    """The whole way: the wire is cut once, after the server has stored the object under its condition."""
    cut = [False]

    def spoil(way: str, piece: bytes) -> bytes | None:
        if way == "down" and not cut[0]:
            cut[0] = True
            return None
        return piece

    prefix = a_prefix()
    with _wire(s3_server.endpoint, spoil) as endpoint:
        inner = s3_server.store(s3_bucket, prefix, endpoint=endpoint)
        etag = Retrying(inner, clock=SystemClock(), first_delay_seconds=0.01).put("key", b"body", if_absent=True)
        inner.close()

    assert cut[0]
    assert s3_server.store(s3_bucket, prefix).head("key").etag == etag


@pytest.mark.s3
def test_more_keys_than_a_page_of_the_server_holds(s3_server: Server, s3_bucket: str) -> None:
    """With pages as large as S3 makes them."""
    store = s3_server.store(s3_bucket, a_prefix())
    keys = [f"data/{number:04}" for number in range(1001)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), keys))

    assert [info.key for info in store.list("data/")] == keys


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two mebibytes."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "becalm-test", str(path)], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("this user may not mount a disk")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_is_said_and_making_room_helps(small_disk: Path) -> None:
    """Nothing half written remains, and a deletion needs no room."""
    store = DirectoryStore(small_disk)
    for number in range(3):
        store.put(f"data/{number}", os.urandom(600_000), if_absent=True)

    with pytest.raises(StoreFull, match="make room"):
        store.put("data/3", os.urandom(600_000), if_absent=True)
    assert [info.key for info in store.list("")] == ["data/0", "data/1", "data/2"]
    store.delete("data/0")
    store.put("data/3", os.urandom(600_000), if_absent=True)


def test_a_disk_without_a_single_block_left_still_deletes(small_disk: Path) -> None:
    """Also where the lock of the folder finds no room."""
    store = DirectoryStore(small_disk)
    store.put("data/key", b"x" * 1000, if_absent=True)
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    store.delete("data/key")

    assert list(store.list("data/")) == []


def test_a_disk_that_is_mounted_read_only_is_said(small_disk: Path) -> None:
    """With what to do about it."""
    store = DirectoryStore(small_disk)
    store.put("data/key", b"body")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    assert store.get("data/key") == b"body"
    for act in (lambda: store.put("data/key", b"x"), lambda: store.put("new/key", b"x"), lambda: store.delete("data/key")):
        with pytest.raises(StoreReadOnly, match="mount it for writing"):
            act()
