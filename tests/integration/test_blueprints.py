"""The blueprints against the real programs, in pods of a real cluster: each application writes all the time, stands still, and goes on.

One pod for each of them, made once for all tests.
"""

# ruff: noqa: F401, F811  (fixtures are imported by their names)

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.contract.clusters import real_subject
from tests.e2e import stores

from becalm.actions import discover, quiesce
from becalm.actions.handover import Begun, Ports, Settings, Trigger
from becalm.clock import SystemClock
from becalm.errors import HookFailed
from becalm.kube.base import Verb
from becalm.kube.kinds import CLAIM, NAMESPACE, POD
from becalm.model import run_key
from becalm.policy.blueprints import PARAMETERS, BlueprintName
from becalm.quiesce.base import Freeze, Froze, Released, Target
from becalm.quiesce.blueprint import Recipe, recipe_of
from becalm.quiesce.command import CommandQuiescer
from becalm.repository import lease
from becalm.testing.builders import a_policy
from becalm.testing.contracts.cluster import Subject
from becalm.testing.memory_store import MemoryStore

pytestmark = pytest.mark.cluster

IMAGE = os.environ.get("BECALM_STORES_IMAGE", "becalm.dev/stores:1")
STILL_SECONDS = 0.6
LONG, SHORT = 60, 10
"""Seconds that a freeze may last: so many that no slow machine reaches them, and so few that a test can wait for the switch."""
SUMS = "find {paths} -type f -print0 | sort -z | xargs -0 sha256sum"


@dataclass(frozen=True, eq=False)
class Application:
    """One program: how it is started, how far its writer has come, and which of its files must not change."""

    name: str
    use: BlueprintName
    script: str
    counts: str
    still: str
    given: dict[str, Any] = field(default_factory=dict)
    privileged: bool = False


MARIADB = Application("mariadb", BlueprintName.MARIADB, stores.MARIADB, stores.MARIADB_COUNTS, "/data/db/shop/notes.MY*")
REDIS = Application("redis", BlueprintName.REDIS, stores.REDIS, stores.REDIS_COUNTS, "/data")
SQLITE = Application(
    "sqlite",
    BlueprintName.SQLITE,
    stores.SQLITE,
    stores.SQLITE_COUNTS,
    "/data/logged.sqlite /data/plain.sqlite",
    {"files": ["/data/logged.sqlite", "/data/plain.sqlite"]},
)
FILES = Application("files", BlueprintName.FILESYSTEM, stores.FILES, stores.FILES_COUNTS, "/data", privileged=True)
ETCD = Application("etcd", BlueprintName.ETCD, stores.ETCD, "ETCDCTL_API=3 etcdctl endpoint status", "")
WRITERS = [MARIADB, REDIS, SQLITE, FILES]
ENVIRONMENT = {"MARIADB_ROOT_PASSWORD": stores.PASSWORD, "REDIS_PASSWORD": stores.PASSWORD}


@dataclass
class Stage:
    """A namespace in which all the programs run."""

    subject: Subject
    namespace: str

    @property
    def driver(self) -> CommandQuiescer:
        """The driver of all of them."""
        return CommandQuiescer(self.subject.cluster, SystemClock())

    def sh(self, application: Application, script: str, stdin: bytes = b"") -> str:
        """Return what a script prints in the container."""
        done = self.subject.cluster.exec(
            self.namespace, application.name, container="main", command=["sh", "-c", script], stdin=stdin, timeout_seconds=60
        )
        assert done.exit_code == 0, f"{script}: {done.exit_code} {done.stderr.decode()}"
        return done.stdout.decode().strip()

    def run(self, application: Application, command: tuple[str, ...]) -> tuple[int | None, bytes, str]:
        """Run one command of a recipe as it is."""
        done = self.subject.cluster.exec(self.namespace, application.name, container="main", command=command, timeout_seconds=60)
        return done.exit_code, done.stdout, done.stderr.decode()

    def recipe(self, application: Application, seconds: int = LONG, **given: object) -> Recipe:
        """Cook with the application's parameters and more."""
        parameters = PARAMETERS[application.use].model_validate({**application.given, **given})
        return recipe_of(application.use, parameters.model_dump_json(by_alias=True), timeout_seconds=seconds)

    def target(self, application: Application, seconds: int = LONG, **given: object) -> Target:
        """Return what the driver acts on."""
        recipe = self.recipe(application, seconds, **given)
        return Target(
            namespace=self.namespace,
            pod=application.name,
            container="main",
            freeze=recipe.freeze,
            thaw=recipe.thaw,
            timeout_seconds=float(seconds),
        )

    def frozen(self, target: Target) -> str:
        """Freeze, demand that it is frozen under a switch, and return the switch."""
        switch = self.driver.switch(target, run="blueprint", hook="test")
        answer = self.driver.freeze(target, switch=switch)
        assert (answer.outcome, answer.guarded) == (Freeze.FROZEN, True), answer.message
        return switch

    def tried(self, target: Target) -> tuple[Froze, Released]:
        """Freeze and thaw at once."""
        switch = self.driver.switch(target, run="blueprint", hook="test")
        froze = self.driver.freeze(target, switch=switch)
        return froze, self.driver.thaw(target, switch=switch)

    def goes_on(self, application: Application) -> None:
        """Wait until the writer has come farther than it is now."""
        now = self.sh(application, application.counts)
        self.subject.eventually(lambda: self.sh(application, application.counts) != now, seconds=30)

    def sums(self, application: Application) -> str:
        """Return the digests of the files that must not change in a freeze."""
        return self.sh(application, SUMS.format(paths=application.still))


@pytest.fixture(scope="module")
def stage(real_subject: Subject) -> Iterator[Stage]:
    """Start everything side by side, and remove it afterwards."""
    made = real_subject.cluster.apply(NAMESPACE, {"metadata": {"generateName": "blueprints-"}}, verb=Verb.CREATE)
    ready = Stage(subject=real_subject, namespace=str(made["metadata"]["name"]))
    try:
        with ThreadPoolExecutor(max_workers=5) as pool:
            list(pool.map(lambda application: start(ready, application), [*WRITERS, ETCD]))
        yield ready
    finally:
        real_subject.cluster.delete(NAMESPACE, ready.namespace)


def start(stage: Stage, application: Application) -> None:
    """Start one program, and wait until it serves."""
    metadata = {"name": application.name, "namespace": stage.namespace}
    size = stores.HEAVIEST if application in {MARIADB, ETCD} else "64Mi"
    stage.subject.create(CLAIM, {"metadata": metadata, "spec": stores.claim_spec(size)})
    spec = stores.pod(IMAGE, application.script, environment=ENVIRONMENT, claim=application.name, privileged=application.privileged)
    stage.subject.create(POD, {"metadata": {**metadata, "labels": {"app": application.name}}, "spec": spec})
    stage.subject.eventually(lambda: phase(stage, application) == "Running", seconds=180)

    def serves() -> bool:
        done = stage.subject.cluster.exec(stage.namespace, application.name, container="main", command=["sh", "-c", application.counts])
        return done.exit_code == 0 and bool(done.stdout.strip())

    stage.subject.eventually(serves, seconds=180)
    if application is not ETCD:
        stage.goes_on(application)


def phase(stage: Stage, application: Application) -> str:
    pod = stage.subject.cluster.get(POD, application.name, namespace=stage.namespace)
    return str((pod.get("status") or {}).get("phase"))


@pytest.mark.parametrize("application", WRITERS, ids=lambda item: item.name)
def test_it_stands_still_and_goes_on(stage: Stage, application: Application) -> None:
    """Between freeze and thaw the writer comes no farther and no file changes; no process shows a password; it goes on; a thaw more does no harm."""
    target = stage.target(application)
    switch = stage.frozen(target)
    before = stage.sh(application, application.counts), stage.sums(application)
    time.sleep(STILL_SECONDS)
    after = stage.sh(application, application.counts), stage.sums(application)
    processes = stage.sh(application, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
    released = stage.driver.thaw(target, switch=switch)
    again = stage.driver.thaw(target, switch=switch)

    assert after == before
    assert stores.PASSWORD not in processes
    assert (released.confirmed, released.held, released.message) == (True, True, "")
    assert (again.confirmed, again.held) == (True, False)
    stage.goes_on(application)


def test_the_switch_lets_it_go_on(stage: Stage) -> None:
    """Nobody comes to thaw: each container does it itself, the lock is gone, and whoever comes late is told."""

    def play(application: Application) -> Released:
        target = stage.target(application, seconds=SHORT)
        switch = stage.frozen(target)
        stage.goes_on(application)
        return stage.driver.thaw(target, switch=switch)

    with ThreadPoolExecutor(max_workers=len(WRITERS)) as pool:
        answers = list(pool.map(play, WRITERS))

    assert [(answer.confirmed, answer.held, answer.fired) for answer in answers] == [(True, False, True)] * len(WRITERS)


LOSSES = {
    MARIADB: 'export MYSQL_PWD="$MARIADB_ROOT_PASSWORD"; for id in $(mariadb --user=root --batch --skip-column-names --execute='
    '"select id from information_schema.processlist where command = \'Sleep\'"); do mariadb --user=root --execute="kill $id" || true; done',
    REDIS: 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli client unpause',
    SQLITE: "kill -9 $(cat /dev/shm/becalm-session.sqlite-*/client)",
    FILES: "fsfreeze --unfreeze /data",
}


@pytest.mark.parametrize("application", LOSSES, ids=lambda item: item.name)
def test_a_lock_that_was_lost_did_not_hold(stage: Stage, application: Application) -> None:
    """Somebody takes the lock away in the middle of the freeze: it is thawed, and never said to have held."""
    target = stage.target(application)
    switch = stage.frozen(target)
    stage.sh(application, LOSSES[application])
    stage.goes_on(application)
    released = stage.driver.thaw(target, switch=switch)

    assert (released.confirmed, released.held) == (True, False)
    assert "had not held" in released.message


@pytest.mark.parametrize(
    ("application", "given", "sentence"),
    [
        (MARIADB, {"passwordFile": "/etc/hostname"}, "Access denied for user 'root'"),
        (MARIADB, {"account": "nobody"}, "Access denied for user 'nobody'"),
        (MARIADB, {"passwordFile": "/none"}, "the password's file /none cannot be read"),
        (MARIADB, {"socket": "/none"}, "Can't connect to local server through socket '/none'"),
        (REDIS, {"passwordFile": "/etc/hostname"}, "NOAUTH Authentication required"),
        (REDIS, {"port": 1}, "Could not connect to Redis at 127.0.0.1:1"),
        (SQLITE, {"files": ["/data/none.sqlite"]}, "there is no database /data/none.sqlite in this container"),
        (SQLITE, {"files": ["/etc/hostname"]}, "file is not a database"),
        (FILES, {"path": "/etc"}, "nothing is mounted at /etc"),
        (FILES, {"path": "/scratch"}, "only a part of a file system is mounted"),
    ],
    ids=lambda item: item.name if isinstance(item, Application) else "",
)
def test_what_cannot_be_frozen_says_why(stage: Stage, application: Application, given: dict[str, Any], sentence: str) -> None:
    """Wrong credentials, wrong places, and what it would be dangerous to freeze: a sentence, nothing frozen, and no thaw that hangs on it."""
    froze, released = stage.tried(stage.target(application, **given))

    assert froze.outcome is Freeze.FAILED
    assert sentence in froze.message
    assert stores.PASSWORD not in froze.message
    assert released.confirmed
    stage.goes_on(application)


def test_wrong_credentials_fail_the_application_that_must_not_be_captured_otherwise(stage: Stage) -> None:
    """With `onFailure: fail` the hook's failure is an error with the server's own sentence, and whoever was frozen beside it goes on."""
    hooks = [
        {"select": {"labels": "app=mariadb"}, "use": "mariadb"},
        {"select": {"labels": "app=redis"}, "use": "redis", "with": {"passwordFile": "/etc/hostname", "members": "every"}},
    ]
    policy = a_policy(select={"namespaces": [stage.namespace]}, quiesce={"hooks": hooks, "onFailure": "fail", "timeout": "20s"})
    settings = Settings(cluster_name="test", namespace=stage.namespace)
    ports = Ports(cluster=stage.subject.cluster, store=MemoryStore(), password="x", clock=SystemClock(), settings=settings)
    run = run_key("blueprints", stage.namespace)
    begun = Begun(
        policy="blueprints",
        policy_digest="0",
        run_id=stage.namespace,
        run=run,
        trigger=Trigger.MANUAL,
        started=ports.clock.now(),
        epoch=lease.take(ports.store, policy="blueprints", run=run, seconds=600).epoch,
    )
    (application,) = discover.execute(policy, ports).applications

    with pytest.raises(HookFailed, match="NOAUTH Authentication required"):
        quiesce.execute(application, begun, policy, ports)
    stage.goes_on(MARIADB)
    stage.goes_on(REDIS)


def test_an_image_without_the_program_was_never_frozen(stage: Stage) -> None:
    """A pod of the small image has none of the programs: 127 says that nothing was frozen, and the sentence what is missing."""
    stage.subject.pod(stage.namespace, "bare")
    stage.subject.running(stage.namespace, "bare")
    recipes = [stage.recipe(application) for application in WRITERS if application is not FILES]
    answers = [
        stage.subject.cluster.exec(stage.namespace, "bare", container="main", command=command)
        for recipe in recipes
        for command in (recipe.freeze, recipe.thaw)
    ]

    assert {answer.exit_code for answer in answers} <= {75, 127}
    assert [answer.exit_code for answer in answers[::2]] == [127] * len(recipes)
    assert b"in the image" in answers[0].stderr


def test_a_long_statement_fails_the_freeze_instead_of_stopping_everybody(stage: Stage) -> None:
    """The read lock waits a short while for a statement that writes, then gives up; nobody waits behind it any longer."""
    slow = "update orders set n = n + 0 * sleep(60) limit 1"
    stage.sh(MARIADB, f'MYSQL_PWD="$MARIADB_ROOT_PASSWORD" setsid mariadb --user=root shop --execute="{slow}" </dev/null >/dev/null 2>&1 &')
    running = "select count(*) from information_schema.processlist where info like 'update orders%'"
    count = f'MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb --user=root --batch --skip-column-names --execute="{running}"'
    stage.subject.eventually(lambda: stage.sh(MARIADB, count) == "1", seconds=20)
    froze, released = stage.tried(stage.target(MARIADB))
    stage.sh(
        MARIADB,
        count.replace("select count(*)", "select concat('kill ', id)") + ' | MYSQL_PWD="$MARIADB_ROOT_PASSWORD" mariadb --user=root',
    )

    assert froze.outcome is Freeze.FAILED
    assert "Lock wait timeout exceeded" in froze.message
    assert released.confirmed
    stage.goes_on(MARIADB)


def test_redis_without_an_append_only_file_saves_its_dump(stage: Stage) -> None:
    """The dump on the disk is of the moment of the freeze: nothing is left unsaved, and it loads with both halves of each pair."""
    auth = 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli'
    stage.sh(REDIS, f"{auth} config set appendonly no")
    target = stage.target(REDIS)
    switch = stage.frozen(target)
    counts = stage.sh(REDIS, stores.REDIS_COUNTS)
    unsaved = stage.sh(REDIS, f"{auth} info persistence | grep rdb_changes_since_last_save")
    stage.sh(REDIS, "rm -rf /tmp/copy; mkdir /tmp/copy; cp /data/dump.rdb /tmp/copy")
    released = stage.driver.thaw(target, switch=switch)
    stage.sh(REDIS, f"{auth} config set appendonly yes")
    stage.sh(REDIS, "redis-server --dir /tmp/copy --port 0 --unixsocket /tmp/copy.sock --daemonize yes --logfile /tmp/copy.log")
    stage.subject.eventually(lambda: "PONG" in stage.sh(REDIS, "redis-cli -s /tmp/copy.sock ping || true"), seconds=20)
    copied = stage.sh(REDIS, "redis-cli -s /tmp/copy.sock mget orders items; redis-cli -s /tmp/copy.sock shutdown nosave || true")

    assert unsaved == "rdb_changes_since_last_save:0"
    assert (released.confirmed, released.held) == (True, True)
    assert copied == counts
    assert len(set(counts.split())) == 1


def test_etcd_gives_a_snapshot_from_which_a_server_starts(stage: Stage) -> None:
    """The leader says so, the snapshot is whole, and a new member restored from it has every key; nothing is left in the container."""
    stage.sh(ETCD, "export ETCDCTL_API=3; for i in 1 2 3; do etcdctl put /shop/$i value-$i; done")
    recipe = stage.recipe(ETCD)
    (keep,) = recipe.keeps
    code, snapshot, complaint = stage.run(ETCD, keep.command)
    left = stage.sh(ETCD, "ls /tmp")
    stage.sh(ETCD, "cat >/tmp/back.db", stdin=snapshot)
    stage.sh(ETCD, "rm -rf /tmp/new; ETCDCTL_API=3 etcdctl snapshot restore /tmp/back.db --data-dir /tmp/new")
    urls = (
        "--listen-client-urls http://127.0.0.1:3379 --advertise-client-urls http://127.0.0.1:3379 --listen-peer-urls http://127.0.0.1:3380"
    )
    stage.sh(ETCD, f"setsid etcd --data-dir /tmp/new {urls} </dev/null >/tmp/new.log 2>&1 &")
    get = "ETCDCTL_API=3 etcdctl --endpoints http://127.0.0.1:3379 get --prefix /shop --print-value-only || true"
    keys = stage.subject.eventually(lambda: stage.sh(ETCD, get), seconds=30)

    assert not recipe.freezes
    assert code == 0, complaint
    assert "becalm" not in left
    assert stage.run(ETCD, recipe.probe)[0] == 0
    assert keys.split() == ["value-1", "value-2", "value-3"]


def test_the_probes_know_who_writes(stage: Stage) -> None:
    """0 in the member that writes, 1 in one that follows, and another code where it is not known."""
    writes = [stage.run(application, stage.recipe(application).probe)[0] for application in (MARIADB, REDIS)]
    follower = "redis-server --port 7777 --daemonize yes --dir /tmp --replicaof 127.0.0.1 1 --masterauth none"
    stage.sh(REDIS, follower)
    stage.subject.eventually(lambda: "PONG" in stage.sh(REDIS, "redis-cli -p 7777 ping || true"), seconds=20)
    follows = stage.run(REDIS, stage.recipe(REDIS, port=7777).probe)[0]
    stage.sh(REDIS, "redis-cli -p 7777 shutdown nosave || true")
    unknown = [stage.run(application, stage.recipe(application, host="127.0.0.1", port=1).probe)[0] for application in (MARIADB, REDIS)]

    assert writes == [0, 0]
    assert follows == 1
    assert unknown == [2, 2]
