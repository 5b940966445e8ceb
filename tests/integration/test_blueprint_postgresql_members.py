"""The PostgreSQL blueprint against real servers on this machine: a primary with a hot standby, and the statements of servers before version 15.

The servers are Debian's, each in a folder of its own; the recipe's commands run as they would in the server's container.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.e2e.database import _as_postgres, _programs

from becalm.actions import members
from becalm.actions.handover import HookOrigin, HookPlan
from becalm.actions.pods import Place, Resolved
from becalm.kube.base import ExecResult
from becalm.policy.blueprints import BlueprintName
from becalm.quiesce.blueprint import recipe_of
from becalm.quiesce.deadman import FOLDERS
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.objects import a_namespace, a_pod

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOOK = HookPlan(name="h", origin=HookOrigin.POLICY, namespace="shop", labels="app=db", use=BlueprintName.POSTGRESQL)
BEFORE_15 = """
create schema old; create table old.called (what text);
create function old.current_setting(name text) returns text language sql as
  $$ select case when name = 'server_version_num' then '140012' else pg_catalog.current_setting(name) end $$;
create function old.pg_start_backup(label text, fast boolean, exclusive boolean) returns pg_lsn language sql as
  $$ insert into old.called values ('start ' || exclusive); select pg_catalog.pg_backup_start(label, fast) $$;
create function old.pg_stop_backup(exclusive boolean, wait boolean, out lsn pg_lsn, out labelfile text, out spcmapfile text) language sql as
  $$ insert into old.called values ('stop ' || exclusive); select * from pg_catalog.pg_backup_stop(wait) $$;
alter role postgres set search_path = old, pg_catalog, public;
"""
"""What makes a server of today answer as one of version 14 does: it says so of itself, and has the functions of then."""


@dataclass(frozen=True)
class Server:
    """A server in a folder: its data, its socket, and a folder for what commands leave."""

    folder: Path

    def program(self, name: str, *arguments: str) -> str:
        """Run one of Debian's programs as the server's own user; return what it prints."""
        command = [*_as_postgres(), str(_programs() / name), *arguments]
        # To a file: a server that is started keeps a pipe open.
        with (self.folder / "said").open("w+") as said:
            subprocess.run(command, check=True, cwd="/", stdout=said, stderr=said, timeout=120)
            said.seek(0)
            return said.read()

    def start(self) -> None:
        """Start it; it listens on its socket only."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        self.program("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        """Stop it, if it runs."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.program("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def sql(self, text: str) -> str:
        """Ask it."""
        return self.program("psql", "-h", str(self.folder), "-U", "postgres", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", text).strip()

    def run(self, command: Sequence[str]) -> ExecResult:
        """Run a command of the recipe as in the server's container."""
        words = ["TMPDIR" if word == ":".join(FOLDERS) else word for word in command]
        variables = {"PATH": f"{_programs()}:/usr/bin:/bin", "PGHOST": str(self.folder), "TMPDIR": str(self.folder / "tmp")}
        done = subprocess.run(words, env=variables, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=120)
        return ExecResult(stdout=done.stdout, stderr=done.stderr, exit_code=done.returncode)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, as a socket needs it, that the server's user may write to."""
    made = Path(tempfile.mkdtemp(prefix="becalm-pg-", dir="/var/tmp"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def primary(folder: Path) -> Iterator[Server]:
    """A server that writes."""
    made = _server(folder / "a")
    made.program("initdb", "-D", str(made.folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync")
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def standby(folder: Path, primary: Server) -> Iterator[Server]:
    """One that follows it, and answers those who read."""
    made = _server(folder / "b")
    source = ("-h", str(primary.folder), "-U", "postgres")
    made.program("pg_basebackup", *source, "-D", str(made.folder / "data"), "-R", "-c", "fast", "--no-sync")
    made.start()
    try:
        yield made
    finally:
        made.stop()


def _server(folder: Path) -> Server:
    for path in (folder.parent, folder, folder / "tmp"):
        path.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(path, account.pw_uid, account.pw_gid)
    return Server(folder)


def test_a_hot_standby_is_left_out_and_its_primary_is_stilled(primary: Server, standby: Server) -> None:
    """Both run and are ready; each is asked itself. A server that does not answer is not taken for a standby."""
    servers = {"db-0": standby, "db-1": primary}
    cluster = FakeCluster()
    cluster.put(a_namespace("shop"), a_pod("db-0"), a_pod("db-1"))
    cluster.run_command = lambda namespace, pod, *, container, command, stdin=b"", timeout_seconds=30: servers[pod].run(command)
    found = Resolved(places=tuple(Place(hook=HOOK, pod=name, uid=name, container="main") for name in servers))
    chosen = members.choose(found, cluster, FakeClock())
    primary.stop()
    alone = members.choose(found, cluster, FakeClock())

    assert standby.sql("select pg_is_in_recovery()") == "t"
    assert ([place.pod for place in chosen.places], chosen.missing) == (["db-1"], ())
    assert [(item.what, item.because) for item in chosen.left_out] == [
        ("pods/shop/db-0 (main)", "it follows another member, which is the one that writes")
    ]
    assert alone.places == ()
    assert ["it is unknown whether this member writes" in str(miss) for miss in alone.missing] == [True]


@pytest.mark.parametrize("old", [False, True], ids=["15 and later", "10 to 14"])
def test_the_statements_are_those_of_the_servers_version(primary: Server, old: bool) -> None:
    """The names of the functions changed with 15: the server's own number decides, and the backup is one of one session that excludes no other."""
    if old:
        primary.sql(BEFORE_15)
    recipe = recipe_of("postgresql", "", timeout_seconds=30)
    frozen = primary.run(recipe.freeze)
    held = primary.sql("select count(*) from pg_replication_slots where temporary")
    label = next((primary.folder / "tmp").glob("becalm-session.*"), None)
    thawed = primary.run(recipe.thaw)
    said = (label / "label").read_text() if label else ""
    ended = primary.run(recipe.done)

    assert (frozen.exit_code, frozen.stderr) == (0, b"")
    assert held == "1"
    assert (thawed.exit_code, thawed.stderr) == (0, b"")
    assert "START WAL LOCATION" in said
    assert "LABEL: becalm" in said
    assert ended.exit_code == 0
    if old:
        assert primary.sql("select string_agg(what, ', ') from old.called") == "start false, stop false"
