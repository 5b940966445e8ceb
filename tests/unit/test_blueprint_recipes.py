"""The recipes of the blueprints: pure, safe against whatever an author writes, and readable by every POSIX shell."""

from __future__ import annotations

import base64
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.model import Consistency
from becalm.policy.blueprints import PARAMETERS, BlueprintName, Parameters, Stilled
from becalm.quiesce import mysql
from becalm.quiesce.blueprint import MODULES, Members, Recipe, find, recipe_of
from becalm.quiesce.deadman import FOLDERS
from becalm.quiesce.elasticsearch import SCRIPT as ELASTICSEARCH
from becalm.quiesce.etcd import SCRIPT as ETCD
from becalm.quiesce.filesystem import SCRIPT as FILESYSTEM
from becalm.quiesce.mongodb import SCRIPT as MONGODB
from becalm.quiesce.mysql import SCRIPT as MYSQL
from becalm.quiesce.redis import SCRIPT as REDIS
from becalm.quiesce.shell import FUNCTIONS
from becalm.quiesce.sqlite import SCRIPT as SQLITE

MINE = ("mysql", "redis", "sqlite", "etcd", "filesystem", "mongodb", "elasticsearch")
NAMES = [name for name in BlueprintName if MODULES[name] in MINE]
SCRIPTS = {
    "mysql": MYSQL,
    "redis": REDIS,
    "sqlite": SQLITE,
    "etcd": ETCD,
    "filesystem": FILESYSTEM,
    "mongodb": MONGODB,
    "elasticsearch": ELASTICSEARCH,
}
SHELLS = [shell for shell in (["dash"], ["busybox", "sh"], ["bash", "--posix"]) if shutil.which(shell[0])]
EVIL = "$(touch /tmp/x)`id`';\"\\ x"


def cooked(name: BlueprintName, timeout_seconds: int = 20, **more: object) -> Recipe:
    return recipe_of(name, json.dumps(more), timeout_seconds=timeout_seconds)


def commands(recipe: Recipe) -> list[tuple[str, ...]]:
    return [command for command in (recipe.freeze, recipe.thaw, recipe.probe, *(keep.command for keep in recipe.keeps)) if command]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_shell_can_read_every_script(name: str, shell: list[str]) -> None:
    """No construct of one shell alone."""
    done = subprocess.run([*shell, "-n", "-c", FUNCTIONS + SCRIPTS[name]], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_whole(name: BlueprintName) -> None:
    """It freezes and thaws, or it only keeps something; who picks one member knows how to ask; the shell is among its needs."""
    recipe = cooked(name)

    assert bool(recipe.freeze) == bool(recipe.thaw)
    assert recipe.freezes or recipe.keeps
    assert recipe.members is Members.EVERY or recipe.probe
    assert "sh" in recipe.needs
    assert find(name).name is name


def test_what_no_test_runs_says_so() -> None:
    """MySQL, MongoDB and Elasticsearch are not tested, and say it; what the maker vouches for no more than that gets no better label."""
    untested = {name for name in NAMES if not find(name).tested}

    assert untested == {BlueprintName.MYSQL, BlueprintName.MONGODB, BlueprintName.ELASTICSEARCH}
    assert cooked(BlueprintName.ELASTICSEARCH).best is Consistency.CRASH
    assert cooked(BlueprintName.ETCD).best is Consistency.CRASH


def texts(parameters: type[Parameters]) -> dict[str, object]:
    """Return something evil for each parameter that takes a text."""
    given: dict[str, object] = {}
    for name, field in parameters.model_fields.items():
        key = field.alias or name
        if name in {"container", "user", "port", "tls", "members"}:
            continue
        given[key] = [f"/{EVIL}"] if name == "files" else f"/{EVIL}" if "Path" in str(field.annotation) or name in PATHS else EVIL
    return given


PATHS = {"socket", "password_file", "ca", "certificate", "key", "folder", "path"}


@pytest.mark.parametrize("name", NAMES)
def test_no_text_of_an_author_becomes_part_of_a_script(name: BlueprintName) -> None:
    """Whatever is written as a parameter stands in arguments of its own, never inside the shell's."""
    evil = texts(PARAMETERS[name])
    plain = cooked(name)
    recipe = cooked(name, **evil)

    assert evil
    for command, other in zip(commands(recipe), commands(plain), strict=True):
        assert command[:3] == ("sh", "-c", 'eval "$1"')
        assert command[4] == other[4]
        assert EVIL not in command[4]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.from_regex(r"\A/[a-z' \"\\;$]{1,12}\Z"), min_size=1, max_size=10, unique=True))
def test_the_names_of_databases_are_quoted_for_sqlite(files: list[str]) -> None:
    """Taken out of its quotes again, each name is the one that was given; the first one is the client's argument."""
    freeze = cooked(BlueprintName.SQLITE, files=files).freeze
    opening = next(part for part in freeze if part.startswith(".timeout"))
    quoted = [line.removeprefix("attach '").split("' as other")[0] for line in opening.splitlines() if line.startswith("attach")]

    assert [name.replace("''", "'") for name in quoted] == files[1:]
    assert freeze[-1] == files[-1]
    assert files[0] in freeze


@settings(deadline=None, max_examples=40)
@given(st.integers(min_value=1, max_value=600))
def test_a_lock_is_waited_for_less_long_than_the_hook_has(seconds: int) -> None:
    """So the freeze fails by itself, with the server's own reason, before the dead-man switch ends it."""
    freeze = cooked(BlueprintName.MARIADB, timeout_seconds=seconds).freeze
    opening = next(part for part in freeze if part.startswith("set session lock_wait"))
    wait = int(opening.split(";")[0].split("=")[1])

    assert 1 <= wait <= max(1, seconds // 2)
    assert wait <= mysql.LONGEST_WAIT_SECONDS


def test_all_members_are_frozen_where_each_of_them_writes() -> None:
    """`members: every` asks nobody."""
    for name in (BlueprintName.MARIADB, BlueprintName.REDIS):
        assert cooked(name).members is Members.PRIMARY
        assert cooked(name, members=Stilled.EVERY.value).members is Members.EVERY


def test_two_servers_in_one_container_have_sessions_of_their_own() -> None:
    """Another port or another file: another name; the same words: the same name, from freeze to thaw."""
    thaws = [cooked(BlueprintName.MARIADB, host="127.0.0.1", port=port).thaw for port in (3306, 3307, 3306)]
    files = [cooked(BlueprintName.SQLITE, files=[file]).thaw for file in ("/a", "/b", "/a")]

    for first, second, third in (thaws, files):
        assert first == third != second


class Node(http.server.BaseHTTPRequestHandler):
    """A node of Elasticsearch as its manual has it: the few calls that the blueprint makes."""

    def answer(self) -> None:
        """Answer one call."""
        server: Elastic = self.server  # type: ignore[assignment]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        server.calls.append(f"{self.command} {self.path}")
        code, reply = server.reply(self.command, self.path, body, self.headers.get("Authorization", ""))
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(reply, separators=(",", ":")).encode())

    do_GET = do_PUT = do_POST = answer  # noqa: N815  (names that the server looks for)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Elastic(http.server.HTTPServer):
    """The cluster's one setting, and who is its master."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Node)
        self.calls: list[str] = []
        self.blocked, self.master, self.authorization = False, "node-a", ""

    def reply(self, method: str, path: str, body: str, authorization: str) -> tuple[int, object]:
        """Say what a node says."""
        if authorization != self.authorization:
            return 401, {"error": "security_exception"}
        if method == "PUT" and path == "/_cluster/settings":
            self.blocked = json.loads(body)["transient"]["cluster.blocks.read_only"] is True
            return 200, {"acknowledged": True}
        if path.startswith("/_cluster/settings"):
            return 200, {"persistent": {}, "transient": {"cluster.blocks.read_only": "true"} if self.blocked else {}}
        if path.startswith("/_cluster/state"):
            return 200, {"master_node": self.master}
        if path.startswith("/_nodes/_local"):
            return 200, {"nodes": {"node-a": {"name": "one"}}}
        return 200, {"_shards": {"failed": 0}}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def elastic() -> Iterator[Elastic]:
    server = Elastic()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(command: tuple[str, ...], folder: Path, **environment: str) -> tuple[int, str]:
    """Run a command of a recipe, with a folder for its note that no other test knows, and no wait for the machine's disks."""
    text = command[4].replace(":".join(FOLDERS), str(folder))
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "sync").write_text("#!/bin/sh\n")
    (programs / "sync").chmod(0o755)
    variables = {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", **environment}
    done = subprocess.run([*command[:4], text, *command[5:]], capture_output=True, text=True, env=variables, check=False)
    return done.returncode, done.stderr


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_elasticsearch_is_spoken_to_as_its_manual_says(tmp_path: Path) -> None:
    """Flush, block, flush; unblock once; a block that somebody took away, or set before, is told; the password reaches it unharmed."""
    password = 'it\'s "a" \\secret'
    with elastic() as server:
        server.authorization = "Basic " + base64.b64encode(f"elastic:{password}".encode()).decode()
        recipe = cooked(BlueprintName.ELASTICSEARCH, url=server.url)

        def ask(command: tuple[str, ...]) -> int:
            return run(command, tmp_path, ELASTIC_PASSWORD=password)[0]

        probes = [ask(recipe.probe)]
        server.master = "node-b"
        probes.append(ask(recipe.probe))
        server.calls.clear()
        codes = [ask(recipe.freeze)]
        blocked, calls = server.blocked, list(server.calls)
        codes += [ask(recipe.thaw), ask(recipe.thaw)]
        after = server.blocked
        codes.append(ask(recipe.freeze))
        server.blocked = False
        codes.append(ask(recipe.thaw))
        server.blocked = True
        codes += [ask(recipe.freeze), ask(recipe.thaw)]
        refused = run(recipe.freeze, tmp_path, ELASTIC_PASSWORD="wrong")
        untouched = server.blocked

    assert probes == [0, 1]
    assert calls == ["POST /_flush", "GET /_cluster/settings?flat_settings=true", "PUT /_cluster/settings", "POST /_flush"]
    assert (blocked, after) == (True, False)
    assert codes == [0, 0, 75, 0, 75, 2, 75]
    assert untouched
    assert refused[0] == 2
    assert "security_exception" in refused[1]
