"""Repositories that are not as they should be, at the command line: every verb names the object, and nothing wrong is restored.

Each kind of damage is done to a repository of restic's making or of ours, and `adopt`, `show`, `extract` and `verify` meet it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner

from becalm.cli.app import app
from becalm.errors import BecalmError, exit_code
from becalm.repository.crypto import Kdf, seal
from becalm.repository.format import Config, Layout, SnapshotDoc
from becalm.repository.reader import Repository, init_repository
from becalm.repository.snapshots import save_snapshot
from becalm.repository.tree import TreeBuilder
from becalm.repository.writer import Writer
from becalm.storage.directory import DirectoryStore

CHEAP = Kdf(n=16, r=1)
PASSWORD = "correct horse"
INTEGRITY, PERMANENT = 7, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A damage: what it does, which exit code it deserves, and what the message must name."""

    name: str
    damage: Callable[[Repository], str]
    code: int = INTEGRITY
    verbs: tuple[str, ...] = ("adopt", "extract", "verify")


def replace_object(repository: Repository, key: str, body: bytes) -> None:
    repository.store.delete(key)
    repository.store.put(key, body)


def the_pack(repository: Repository, kind: str) -> str:
    return next(Layout.pack(place.pack) for place in repository.index.entries() if place.blob.kind == kind)


def truncated_pack(repository: Repository) -> str:
    """A pack that ends in its middle."""
    key = the_pack(repository, "data")
    replace_object(repository, key, repository.store.get(key)[:-100])
    return key.rpartition("/")[2][:12]


def cut_tree_pack(repository: Repository) -> str:
    """The same where the directories are."""
    key = the_pack(repository, "tree")
    replace_object(repository, key, repository.store.get(key)[:40])
    return key.rpartition("/")[2][:12]


def missing_pack(repository: Repository) -> str:
    """An index that names a pack which is not there."""
    key = the_pack(repository, "data")
    repository.store.delete(key)
    return key.rpartition("/")[2][:12]


def missing_tree(repository: Repository) -> str:
    """A snapshot of a tree that nobody wrote."""
    tree = sha256(b"nowhere").hexdigest()
    save_snapshot(repository, SnapshotDoc(time=datetime(2026, 5, 1, tzinfo=UTC), tree=tree))
    return tree[:12]


def newer_format(repository: Repository) -> str:
    """A config of a version that is not known."""
    config = Config(version=3, id=repository.id, chunker_polynomial="3da3358b4dc173")
    replace_object(repository, Layout.CONFIG, bytes(seal(repository.key, config.encode())))
    return "version 3"


def foreign_config(repository: Repository) -> str:
    """The config of another repository."""
    replace_object(repository, Layout.CONFIG, b"\x00" * 200)
    return "config"


def no_config(repository: Repository) -> str:
    """A config that went away."""
    repository.store.delete(Layout.CONFIG)
    return "lost its config"


def flipped_snapshot(repository: Repository) -> str:
    """A snapshot with one other bit."""
    key = next(info.key for info in repository.store.list(Layout.SNAPSHOTS))
    body = bytearray(repository.store.get(key))
    body[50] ^= 1
    replace_object(repository, key, bytes(body))
    return key


def flipped_index(repository: Repository) -> str:
    """An index object with one other bit."""
    key = next(info.key for info in repository.store.list(Layout.INDEX))
    body = bytearray(repository.store.get(key))
    body[50] ^= 1
    replace_object(repository, key, bytes(body))
    return key


def no_keys(repository: Repository) -> str:
    """All keys went away."""
    for info in list(repository.store.list(Layout.KEYS)):
        repository.store.delete(info.key)
    return "keys"


CASES = (
    Case(name="truncated pack", damage=truncated_pack, verbs=("verify",)),
    Case(name="truncated pack of a file", damage=truncated_pack, code=PERMANENT, verbs=("extract",)),
    Case(name="truncated pack of directories", damage=cut_tree_pack, verbs=("show", "extract", "verify")),
    Case(name="missing pack", damage=missing_pack, verbs=("verify",)),
    Case(name="missing pack of a file", damage=missing_pack, code=PERMANENT, verbs=("extract",)),
    Case(name="missing tree", damage=missing_tree, verbs=("show", "extract", "verify")),
    Case(name="newer format", damage=newer_format),
    Case(name="foreign config", damage=foreign_config),
    Case(name="no config", damage=no_config),
    Case(name="flipped snapshot", damage=flipped_snapshot),
    Case(name="flipped index", damage=flipped_index, verbs=("extract", "verify")),
    Case(name="no keys", damage=no_keys),
)


def becalm(home: Path, verb: str, *arguments: str) -> tuple[int, str]:
    """Run a verb; return its exit code and all that it said. Anything but an error of Becalm's fails the test."""
    (home / "password").write_text(PASSWORD)
    place = ["--target", f"file://{home}/target", "--policy", "p", "--password", f"file:{home}/password"]
    more = ["--objects"] if verb == "show" else []
    done = CliRunner().invoke(app, [verb, *place, *more, *arguments])
    if isinstance(done.exception, BecalmError):
        return exit_code(done.exception), done.output + str(done.exception)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    (tmp_path / "target" / "p").mkdir(parents=True)
    repository = init_repository(DirectoryStore(str(tmp_path / "target" / "p")), PASSWORD, kdf=CHEAP)
    repository.store.put(Layout.ADOPTED, b'{"format":1,"since":"2026-01-01T00:00:00Z","who":"ada"}')
    with Writer(repository) as writer:
        builder = TreeBuilder()
        builder.add_bytes("data/file", os.urandom(300_000))
        tree = builder.write(writer)
    save_snapshot(repository, SnapshotDoc(time=datetime(2026, 3, 4, tzinfo=UTC), tree=tree))
    return repository


PAIRS = [(case, verb) for case in CASES for verb in case.verbs]


@pytest.mark.parametrize(("case", "verb"), PAIRS, ids=[f"{case.name}: {verb}" for case, verb in PAIRS])
def test_the_damaged_object_is_named(case: Case, verb: str, repository: Repository, tmp_path: Path) -> None:
    """By its key or its id, with the exit code of damage, in one sentence, without a traceback; and no wrong byte is on the disk."""
    named = case.damage(repository)
    goal = tmp_path / "goal"
    code, said = becalm(tmp_path, verb, *(("--to", str(goal)) if verb == "extract" else ()))

    assert named in said
    assert (case.name, code) == (case.name, case.code), said
    assert not list(goal.rglob("file"))


def test_a_wrong_password_is_one_sentence(repository: Repository, tmp_path: Path) -> None:
    """And says how many keys were tried."""
    assert repository.id
    done = subprocess.run(
        [sys.executable, "-m", "becalm.cli", "adopt", "--target", f"file://{tmp_path}/target/p", "--password", "env:PW", "--json"],
        env={"PATH": os.environ["PATH"], "PW": "wrong", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert json.loads(done.stdout)["error"] == "wrong-password"
    assert "none of the 1 keys" in json.loads(done.stdout)["message"]
    assert done.returncode == PERMANENT
    assert done.stderr == ""
