"""`becalm init` and `becalm key` on real targets: what a target must do is tried out, and passwords come and go."""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.contract.restics import Restic, the_restic
from tests.contract.stores import Server, a_prefix, s3_bucket, s3_locking_bucket, s3_server

from becalm.errors import StoreReadOnly
from becalm.repository.format import Layout
from becalm.repository.probe import probe
from becalm.repository.reader import open_repository
from becalm.storage import open_store
from becalm.testing.builders import a_policy

pytestmark = pytest.mark.s3


class Terminal:
    """A person at a command line, with a policy file and passwords in the environment."""

    def __init__(self, root: Path, server: Server, url: str, *, lock: dict[str, Any] | None = None) -> None:
        self.root, self.server, self.url = root, server, f"{url}/shop"
        policy = a_policy().model_dump(mode="json", by_alias=True, exclude_none=True)
        policy["spec"]["target"] = {"url": url, "connection": "s3", "password": "env:FIRST"} | ({"lock": lock} if lock else {})
        self.policy = root / "shop.yaml"
        self.policy.write_text(yaml.safe_dump(policy))
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "FIRST": "first password",
            "SECOND": "second password",
            **server.credentials(),
        }

    def becalm(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run a verb and return its document."""
        program = [sys.executable, "-m", "becalm.cli", *arguments, str(self.policy), "--json"]
        done = subprocess.run(program, env=self.environment, capture_output=True, text=True, check=False, cwd=self.root)
        assert done.returncode == code, done.stdout + done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def store(self):
        """Return the repository's store."""
        return open_store(self.url, self.server.credentials())


def test_the_target_is_tried_out_and_the_recovery_key_opens_with_restic(s3_server: Server, s3_bucket: str, tmp_path: Path) -> None:
    """What stands in the file is what opens, also for the restic command; only its owner can read it."""
    terminal = Terminal(tmp_path, s3_server, f"s3://{s3_bucket}/{a_prefix()}")
    paper = tmp_path / "recovery.txt"
    made = terminal.becalm("init", "--recovery-key", str(paper))
    again = terminal.becalm("init")
    restic = Restic(the_restic(), f"s3:{s3_server.endpoint}/{terminal.url.removeprefix('s3://')}", tmp_path, s3_server)
    listed = terminal.becalm("key", "list")["keys"]

    assert (made["created"], again["created"]) == (True, False)
    assert made["repository"] == again["repository"]
    assert "conditional writes are honoured, also by several at once" in again["holds"]
    assert stat.S_IMODE(paper.stat().st_mode) == 0o600
    assert restic("cat", "config", password=paper.read_text().strip())
    assert [(key["username"], key["opened"]) for key in listed] == [("becalm", True), ("becalm-recovery", False)]
    assert list(terminal.store().list(Layout.PROBES)) == []
    refused = terminal.becalm("init", "--recovery-key", str(paper), code=2)
    assert "cannot be written" in refused["message"]


def test_passwords_are_added_rotated_and_removed(s3_server: Server, s3_bucket: str, tmp_path: Path) -> None:
    """Restic opens with the new one and no more with the old one."""
    terminal = Terminal(tmp_path, s3_server, f"s3://{s3_bucket}/{a_prefix()}")
    terminal.becalm("init")
    first = terminal.becalm("key", "list")["keys"][0]["id"]
    lockout = terminal.becalm("key", "remove", first, code=4)
    added = terminal.becalm("key", "add", "--new-password", "env:SECOND")["key"]
    gone = terminal.becalm("key", "remove", first, "--proven-by", "env:SECOND")
    terminal.becalm("points", code=4)
    terminal.environment["FIRST"] = "second password"
    terminal.environment["SECOND"] = "third password"
    rotated = terminal.becalm("key", "rotate", "--new-password", "env:SECOND")
    restic = Restic(the_restic(), f"s3:{s3_server.endpoint}/{terminal.url.removeprefix('s3://')}", tmp_path, s3_server)

    assert "would lock you out" in lockout["message"]
    assert (gone["gone"], gone["key"]) == (True, first)
    assert (rotated["removed"], rotated["gone"]) == (added, True)
    assert restic("cat", "config", password="third password")
    assert "wrong password" in restic.try_to("cat", "config", password="second password").stderr.decode()


def test_a_password_that_is_not_there_is_said_without_its_value(s3_server: Server, s3_bucket: str, tmp_path: Path) -> None:
    """Wrong, missing and empty ones."""
    terminal = Terminal(tmp_path, s3_server, f"s3://{s3_bucket}/{a_prefix()}")
    terminal.becalm("init")
    missing = terminal.becalm("key", "add", "--new-password", "env:NOBODY", code=2)
    terminal.environment["FIRST"] = "not the password"
    wrong = terminal.becalm("key", "list", code=4)

    assert "empty" in missing["message"]
    assert wrong["error"] == "wrong-password"
    assert "not the password" not in json.dumps(wrong)


@pytest.mark.parametrize("mode", ["compliance", "governance"])
def test_a_bucket_with_object_lock_is_seen_to_enforce_it(s3_server: Server, s3_locking_bucket: str, tmp_path: Path, mode: str) -> None:
    """The server itself refuses to delete what is locked, in the mode that the policy says."""
    terminal = Terminal(tmp_path, s3_server, f"s3://{s3_locking_bucket}/{a_prefix()}", lock={"mode": mode, "days": 1})
    made = terminal.becalm("init")

    assert made["holds"][-1] == "what is locked cannot be deleted"
    assert list(terminal.store().list(Layout.PROBES)) == []
    store = open_store(f"{terminal.url}/probe", s3_server.credentials(), lock=mode)
    until = store.now() + timedelta(seconds=3)
    store.put("locked", b"x", retain_until=until)
    name = f"{terminal.url}/probe/locked".removeprefix(f"s3://{s3_locking_bucket}/")
    assert s3_server.client().head_object(Bucket=s3_locking_bucket, Key=name)["ObjectLockMode"] == mode.upper()


def test_a_policy_that_locks_in_a_bucket_that_cannot_is_refused_by_init(s3_server: Server, s3_bucket: str, tmp_path: Path) -> None:
    """Nothing is made."""
    terminal = Terminal(tmp_path, s3_server, f"s3://{s3_bucket}/{a_prefix()}", lock={"mode": "compliance", "days": 1})
    refused = terminal.becalm("init", code=4)

    assert (refused["error"], refused["message"]) == ("store-read-only", "no object lock here")
    assert list(terminal.store().list("")) == []


def test_a_locked_key_tells_until_when_it_stays(s3_server: Server, s3_locking_bucket: str, tmp_path: Path) -> None:
    """It opens until then; nothing locks it again."""
    terminal = Terminal(tmp_path, s3_server, f"s3://{s3_locking_bucket}/{a_prefix()}", lock={"mode": "governance", "days": 1})
    terminal.becalm("init")
    first = terminal.becalm("key", "list")["keys"][0]["id"]
    store = open_store(terminal.url, s3_server.credentials(), lock="governance")
    store.retain(Layout.key(first), store.now() + timedelta(seconds=8))
    rotated = terminal.becalm("key", "rotate", "--new-password", "env:SECOND")

    assert (rotated["removed"], rotated["gone"]) == (first, False)
    assert rotated["locked_until"]
    assert open_repository(store, "first password")
    assert [key["retired"] for key in terminal.becalm("key", "list")["keys"]] == [True, False]


def test_a_folder_is_tried_out_as_well(tmp_path: Path) -> None:
    """It holds conditions between processes, and no object lock."""
    store = open_store(f"file://{tmp_path}/backups", {}, create=True)

    assert len(probe(store)) == 2
    with pytest.raises(StoreReadOnly, match="no object lock"):
        probe(store, locks=True)
