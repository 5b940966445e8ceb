"""Verifying in shares on real stores, by the command a user runs; and the restic command as judge of what a repair wrote."""

# ruff: noqa: F401  (fixtures are imported by their names)

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.contract.restics import PASSWORD, Restic, the_restic
from tests.contract.stores import Server, a_prefix, s3_bucket, s3_server

from becalm.actions import repair, verify
from becalm.repository.format import Layout
from becalm.repository.reader import open_repository
from becalm.storage import open_store
from becalm.testing.saved_points import save_point

Place = tuple[str, dict[str, str]]


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The URL and the credentials of a target, and in it the repository of the policy `shop`."""
    if request.param == "directory":
        (tmp_path / "target").mkdir()
        url, credentials = f"file://{tmp_path}/target", {}
    else:
        server: Server = request.getfixturevalue("s3_server")
        url, credentials = f"s3://{request.getfixturevalue('s3_bucket')}/{a_prefix()}", server.credentials()
    store = open_store(f"{url}/shop", credentials, create=True)
    for number in range(3):
        files = {f"file-{number}": Random(number).randbytes(200_000)}
        save_point(store, [], kinds=[], volumes={"shop/data": files})
    return url, credentials


def becalm(place: Place, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command as a user does; return its exit code and its JSON."""
    url, credentials = place
    environment = {**os.environ, **credentials, "BECALM_PASSWORD": "correct horse"}
    command = [sys.executable, "-m", "becalm.cli", *arguments, "--target", url, "--policy", "shop", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_shares_add_up_to_every_byte(place: Place) -> None:
    """Each run reads a part; the ledger in the bucket knows what is left, and then that nothing is."""
    _, before = becalm(place, "verify", "--status")
    read = []
    for _ in range(3):
        code, told = becalm(place, "verify", "--rotate", "1s", "--max-bytes", "250000")
        assert (code, told["ok"], told["share"]["packs"]) == (0, True, 1)
        read.append(told["bytes_read"])
    code, after = becalm(place, "verify", "--status")

    assert (before["last_run"], before["unread_packs"]) == (None, before["packs"])
    assert (code, after["unread_packs"], after["damages"]) == (0, 0, [])
    assert sum(read) >= 600_000
    assert after["all_read_since"] is not None


def test_a_lost_pack_ends_with_seven_and_names_its_point(place: Place) -> None:
    """As JSON, for whoever watches."""
    url, credentials = place
    store = open_store(f"{url}/shop", credentials)
    largest = max(store.list(Layout.DATA), key=lambda info: info.size)
    store.delete(largest.key)
    code, told = becalm(place, "verify")
    damage = next(one for one in told["damages"] if one["where"].endswith(largest.key))

    assert code == 7
    assert damage["problem"] == "the pack is not there"
    assert damage["harms"][0]["paths"][0].startswith("/volumes/shop/data/file-")


def test_restic_reads_what_a_repair_saved(tmp_path: Path) -> None:
    """The salvaged snapshot restores whole; the harmed one does not."""
    (tmp_path / "target").mkdir()
    store = open_store(f"file://{tmp_path}/target/shop", {}, create=True)
    files = {"kept": b"kept" * 5000, "folder/lost": Random(5).randbytes(90_000)}
    point = save_point(store, [], kinds=[], volumes={"shop/data": files}).id
    repository = open_repository(store, PASSWORD)
    for entries in repository.index.entries_of_packs():
        if int(entries.length.max()) > 80_000:
            key = Layout.pack(entries.pack)
            body = bytearray(store.get(key))
            largest = int(entries.length.argmax())
            body[int(entries.offset[largest]) + 1000] ^= 1
            store.delete(key)
            store.put(key, bytes(body))
    plan = repair.plan(store, PASSWORD, read_data=True)
    (made,) = repair.execute(store, PASSWORD, plan, policy="shop", who="test").salvaged
    restic = Restic(the_restic(), tmp_path / "target" / "shop", tmp_path)
    told = {one["id"]: one for one in restic.snapshots()}
    restic("restore", made.new, "--target", str(tmp_path / "out"))

    assert restic.try_to("restore", point, "--target", str(tmp_path / "harmed")).returncode != 0
    assert f"salvaged={point}" in told[made.new]["tags"]
    assert (tmp_path / "out" / "volumes" / "shop" / "data" / "kept").read_bytes() == files["kept"]
    assert not (tmp_path / "out" / "volumes" / "shop" / "data" / "folder" / "lost").exists()
    assert (tmp_path / "out" / "becalm-salvaged.json").exists()


def test_restic_finds_no_error_where_a_lost_index_was_written_anew(tmp_path: Path) -> None:
    """From the headers of the packs alone; and Becalm says the same of restic's own."""
    (tmp_path / "source").mkdir()
    for number in range(30):
        (tmp_path / "source" / str(number)).write_bytes(Random(number).randbytes(9000))
    restic = Restic(the_restic(), tmp_path / "repository", tmp_path)
    restic("init")
    restic("backup", str(tmp_path / "source"))
    store = open_store(f"file://{tmp_path}/repository", {})
    for info in list(store.list(Layout.INDEX)):
        store.delete(info.key)
    plan = repair.plan(store, PASSWORD)
    repair.execute(store, PASSWORD, plan, policy="shop", who="test")

    assert "no errors were found" in restic("check", "--read-data")
    assert verify.execute(store, PASSWORD, verify.Wanted(read_data=True), who="test").damages == ()
