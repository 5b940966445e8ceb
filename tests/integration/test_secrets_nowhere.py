"""Fifty secrets go through whole runs, by Airflow and by the command line, good ones and failing ones; and then everything is searched for them.

Forty-seven stand in Secrets of the application, in every form that people use; the others are the repository's password and the
bucket's keys. Looked at are Airflow's database, its logs and its folder, what is in the temporary folder and in the arguments of
every process while the runs go on, what the command line prints, and the recovery point as the command line shows it. The cluster
itself and the environment of processes, where secrets belong, are not.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from tests.contract.stores import Server, a_bucket
from tests.integration.test_airflow_standalone import OBJECTS, REPOSITORY, Airflow, log_in, of_standalone, standalone, until

from becalm.kube import connect
from becalm.kube.base import Verb
from becalm.kube.kinds import SECRET
from becalm.repository.crypto import Kdf
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import load_snapshot
from becalm.repository.tree import lookup, walk
from becalm.storage import open_store
from becalm.testing.sandbox import SandboxHandle, running_sandbox

PLANTED = 47
LOOK_SECONDS = 0.05
REFUSED = {"match": "GET /api/v1/namespaces/shop/secrets", "status": 403, "times": 1000}
"""Nobody may list the application's Secrets."""
SLOW = {"match": "GET /api/v1/namespaces/shop/secrets", "delay_seconds": 20, "times": 1000}
"""Whoever lists the application's Secrets waits: time to be killed."""
LARGEST = 4 << 20
"""Files of a temporary folder that are larger are not looked into while the runs go on."""

POLICY = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {{name: {name}}}
spec:
  cluster: sandbox
  schedule: "0 0 1 1 *"
  select: {{namespaces: [shop]}}
  quiesce:
    timeout: 10s
    onFailure: {on_failure}
    hooks:
      - select: {{labels: app=db}}
        command: {{container: db, freeze: [sh, -c, "{freeze}"], thaw: [sh, -c, "echo thawed >> /data/journal"]}}
  target: {{url: "s3://{bucket}/prod", connection: becalm_s3, password: becalm_repository}}
"""


def needles(core: str) -> list[bytes]:
    """Return what betrays a secret that contains these digits: they themselves, and their base64 and its base64, at each offset."""
    plain = [core.encode(), core.upper().encode(), core[::-1].encode()]
    once = list(_encoded(plain[0]))
    return [*plain, *once, *(twice for one in once for twice in _encoded(one))]


def _encoded(text: bytes) -> Iterator[bytes]:
    """Yield the part of base64 that does not depend on what stands before and after, for each of the three offsets."""
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(text)) * 8 // 6
        yield base64.b64encode(b"\0" * before + text + b"\0\0")[first:last]


@dataclass
class Secrets:
    """What is planted, and how it is found."""

    cores: list[str] = field(default_factory=lambda: [token_hex(12) for _ in range(PLANTED)])
    password: str = field(default_factory=lambda: f"pass {token_hex(12)}/+&=%")
    access_key: str = field(default_factory=lambda: f"AKIA{token_hex(12)}")
    secret_key: str = field(default_factory=lambda: f"key/{token_hex(12)}+=")

    def planted(self) -> Iterator[dict[str, Any]]:
        """Yield Secrets: plain values, values that are encoded twice, files, and copies in an annotation as kubectl leaves them."""
        for number, core in enumerate(self.cores):
            value = f"p@ss/{core}+&=\n\"ü'"
            forms = {
                "plain": value,
                "again": base64.b64encode(value.encode()).decode(),
                "quoted": urllib.parse.quote(value),
                "url": f"postgresql://app:{urllib.parse.quote(core)}@db.example.org/app",
                "json": json.dumps({"auths": {"registry.example.org": {"auth": base64.b64encode(f"u:{core}".encode()).decode()}}}),
            }
            form = list(forms)[number % len(forms)]
            metadata: dict[str, Any] = {"name": f"secret-{number:02d}", "namespace": "shop"}
            if number % 7 == 0:
                metadata["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"stringData": {form: value}})}
            yield {"metadata": metadata, "stringData": {form: forms[form]}}

    def patterns(self) -> dict[str, list[bytes]]:
        """Return for each secret what betrays it."""
        own = {f"secret-{number:02d}": needles(core) for number, core in enumerate(self.cores)}
        ours = {"password": self.password[5:29], "access key": self.access_key[4:], "secret key": self.secret_key[4:28]}
        return own | {name: needles(core) for name, core in ours.items()}


@dataclass
class Watch:
    """Looks at the arguments of all processes and at a temporary folder, again and again, and remembers what it saw of a secret."""

    patterns: dict[str, list[bytes]]
    folder: Path
    found: set[str] = field(default_factory=set)
    files: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Size and time of the files that were looked into."""
    commands: set[bytes] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        """Look until it is over."""
        while not self._stopped.wait(LOOK_SECONDS):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    arguments = process.read_bytes()
                    if arguments not in self.commands:
                        self.commands.add(arguments)
                        self.see(f"the arguments of a process, {arguments[:60]!r}", arguments)
            for folder, _, files in os.walk(self.folder):
                for name in files:
                    path = Path(folder) / name
                    with contextlib.suppress(OSError):
                        status = path.stat()
                        if (status.st_size, status.st_mtime_ns) != self.files.get(path) and status.st_size <= LARGEST and path.is_file():
                            self.files[path] = (status.st_size, status.st_mtime_ns)
                            self.see(f"the temporary file {path}", path.read_bytes())

    def see(self, where: str, what: bytes) -> None:
        """Note each secret that is in these bytes."""
        for name, patterns in self.patterns.items():
            if any(pattern in what for pattern in patterns):
                self.found.add(f"{name} in {where}")

    @contextlib.contextmanager
    def on_guard(self) -> Iterator[None]:
        """Look while something else happens."""
        thread = threading.Thread(target=self.look, name="watch")
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()


@dataclass
class Scene:
    """A sandbox with planted secrets, a bucket, and the command line."""

    sandbox: SandboxHandle
    home: Path
    bucket: str
    secrets: Secrets
    watch: Watch
    environment: dict[str, str]
    said: list[bytes] = field(default_factory=list)
    """Whatever the command line printed."""

    def cli(self, *arguments: str, **environment: str) -> int:
        """Run the command line to its end, keep what it printed, and return its exit code."""
        command = [sys.executable, "-m", "becalm.cli", *arguments]
        done = subprocess.run(command, env=self.environment | environment, capture_output=True, check=False, timeout=600)
        self.said += [done.stdout, done.stderr]
        return done.returncode

    def killed(self, *arguments: str) -> None:
        """Start the command line, and kill it while the server keeps it waiting for the Secrets."""
        self.sandbox.faults(requests=[SLOW])
        command = [sys.executable, "-m", "becalm.cli", *arguments]
        with (self.home / "killed.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
            until(lambda: b"frozen" in self.journal(), 300)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.sandbox.faults()

    def journal(self) -> bytes:
        """Return what the hooks wrote, and empty it."""
        cluster = connect(kubeconfig=str(self.sandbox.kubeconfig))
        return cluster.exec("shop", "db", container="db", command=["sh", "-c", "cat /data/journal; : > /data/journal"]).stdout

    def policy(self, name: str, freeze: str = "echo frozen >> /data/journal", on_failure: str = "crash-consistent") -> str:
        """Write a policy, make its repository, and return its file."""
        file = self.home / "policies" / f"{name}.yaml"
        part = file.with_suffix(".part")
        part.write_text(POLICY.format(name=name, bucket=self.bucket, freeze=freeze, on_failure=on_failure))
        keys = {word: self.environment[word] for word in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
        init_repository(open_store(f"s3://{self.bucket}/prod/{name}", keys), self.secrets.password, kdf=Kdf(n=2**10, r=1, p=1))
        part.rename(file)
        return str(file)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Plant the secrets, and start everything."""
    secrets, home = Secrets(), tmp_path_factory.mktemp("secrets")
    for name in ("policies", "config", "tmp"):
        (home / name).mkdir()
    (home / "config" / "airflow_local_settings.py").write_bytes((REPOSITORY / "deploy" / "airflow_local_settings.py").read_bytes())
    (home / "passwords.json").write_text(json.dumps({"admin": "admin"}))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket_server = Server(endpoint=f"http://{host}:{port}", access_key=secrets.access_key, secret_key=secrets.secret_key)
    watch = Watch(patterns=secrets.patterns(), folder=home / "tmp")
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        bucket = stack.enter_context(a_bucket(bucket_server))
        sandbox = stack.enter_context(running_sandbox(tmp_path_factory.mktemp("sandbox")))
        cluster = connect(kubeconfig=str(sandbox.kubeconfig))
        for kind, body in OBJECTS:
            cluster.apply(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **body}, verb=Verb.CREATE)
        for body in secrets.planted():
            cluster.apply(SECRET, body, verb=Verb.CREATE)
        environment = _environment(home, sandbox, bucket_server, secrets)
        stack.enter_context(watch.on_guard())
        yield Scene(sandbox=sandbox, home=home, bucket=bucket, secrets=secrets, watch=watch, environment=environment)


@pytest.fixture(scope="module")
def airflow(scene: Scene) -> Iterator[Airflow]:
    """Airflow over the same."""
    for command in (("-m", "airflow", "db", "migrate"), ("-m", "becalm.airflow.setup")):
        subprocess.run([sys.executable, *command], env=scene.environment, check=True, capture_output=True, timeout=600)
    with standalone(scene.environment | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG"}, scene.home):
        url = scene.environment["AIRFLOW__API__BASE_URL"]
        yield Airflow(url, until(lambda: log_in(url), 600))


def run(airflow: Airflow, dag: str) -> str:
    """Trigger a DAG and return how its run ended."""
    return ended(airflow, started(airflow, dag))


def started(airflow: Airflow, dag: str) -> str:
    """Trigger a DAG; return where its run is."""
    until(lambda: airflow.ask(f"/api/v2/dags/{dag}")["timetable_summary"], 300)
    return f"/api/v2/dags/{dag}/dagRuns/{airflow.trigger(dag)}"


def ended(airflow: Airflow, run: str) -> str:
    """Return how a run ended."""
    state: str = until(lambda: (found := airflow.ask(run)["state"]) in ("success", "failed") and found, 600)
    return state


def killed(airflow: Airflow, run: str, task: str) -> int:
    """Kill the process of one task of a run while it is at work; return its id."""

    def process() -> int:
        found = airflow.ask(f"{run}/taskInstances")["task_instances"]
        return next((one["pid"] for one in found if one["task_id"].endswith(task) and one["state"] == "running" and one["pid"]), 0)

    number: int = until(process, 300)
    os.kill(number, signal.SIGKILL)
    return number


def _environment(home: Path, sandbox: SandboxHandle, server: Server, secrets: Secrets) -> dict[str, str]:
    """Return the variables of Airflow and of the command line: here the secrets belong."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS", "BECALM", "KUBECONFIG"))}
    store = {"login": secrets.access_key, "password": secrets.secret_key, "extra": {"endpoint_url": server.endpoint}}
    return (
        kept
        | of_standalone(home)
        | {
            "TMPDIR": str(home / "tmp"),
            "AIRFLOW_CONN_SANDBOX": json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(sandbox.kubeconfig)}}),
            "AIRFLOW_CONN_BECALM_S3": json.dumps({"conn_type": "aws", **store}),
            "AIRFLOW_CONN_BECALM_REPOSITORY": json.dumps({"conn_type": "generic", "password": secrets.password}),
            "KUBECONFIG": str(sandbox.kubeconfig),
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": secrets.access_key,
            "AWS_SECRET_ACCESS_KEY": secrets.secret_key,
            "BECALM_PASSWORD": secrets.password,
            "BECALM_POLICIES": str(home / "policies"),
        }
    )


def test_what_is_looked_for_would_be_found() -> None:
    """The search itself is proved: each form of a secret betrays it, whatever stands around it."""
    secrets = Secrets()
    patterns = secrets.patterns()
    assert len(patterns) == 50
    for body in secrets.planted():
        (value,) = body["stringData"].values()
        name = body["metadata"]["name"]
        forms = [value.encode(), base64.b64encode(value.encode()), urllib.parse.quote(value).encode(), json.dumps(value).encode()]
        forms += [base64.b64encode(b"x" * offset + value.encode()) for offset in (1, 2)]
        for form in forms:
            watch = Watch(patterns=patterns, folder=Path())
            watch.see("a form", form)

            assert watch.found == {f"{name} in a form"}, form


def test_the_command_line_tells_no_secret(scene: Scene) -> None:
    """A good run, a refused kind, a hook that fails, a killed process, a wrong password, wrong keys: nothing that is printed or left tells one."""
    good, bad, killed = scene.policy("good"), scene.policy("bad", freeze="echo no >&2; exit 3"), scene.policy("killed")
    scene.killed("run", killed)
    assert scene.cli("run", good) == 0
    scene.sandbox.faults(requests=[REFUSED])
    assert scene.cli("run", good) != 0
    scene.sandbox.faults()
    scene.cli("run", bad)
    assert scene.cli("points", good, BECALM_PASSWORD=f"{scene.secrets.password}!") != 0
    assert scene.cli("points", good, AWS_ENDPOINT_URL="http://127.0.0.1:9") != 0
    for arguments in (("points",), ("show",), ("show", "--objects"), ("show", "--json", "--objects")):
        assert scene.cli(arguments[0], good, *arguments[1:]) == 0
    for number, said in enumerate(scene.said):
        scene.watch.see(f"what the command line printed, {number}", said)
    _see_files(scene)
    _see_the_point(scene, "good")

    assert any(b"becalm.cli" in command for command in scene.watch.commands)
    assert scene.watch.found == set()


@pytest.mark.airflow
def test_airflow_keeps_no_secret(scene: Scene, airflow: Airflow) -> None:
    """A good run, one whose Secrets are refused, one whose hook fails, and one whose task is killed while it reads Secrets; with the most
    talkative logs. Neither database, where XCom and rendered fields are, nor logs nor folders hold one.
    """
    scene.policy("conducted")
    scene.policy("hookless", freeze="echo no >&2; exit 3", on_failure="fail")
    assert run(airflow, "becalm_policy_conducted") == "success"
    scene.sandbox.faults(requests=[REFUSED])
    assert run(airflow, "becalm_policy_conducted") == "failed"
    scene.sandbox.faults()
    failing = started(airflow, "becalm_policy_hookless")
    scene.journal()
    scene.sandbox.faults(requests=[SLOW])
    halted = started(airflow, "becalm_policy_conducted")
    until(lambda: b"frozen" in scene.journal(), 300)
    killed(airflow, halted, "snapshot")
    scene.sandbox.faults()
    assert (ended(airflow, failing), ended(airflow, halted)) == ("failed", "failed")
    _see_database(scene)
    assert _see_files(scene) > 10  # the logs of the tasks
    _see_the_point(scene, "conducted")

    assert any(b"standalone" in command for command in scene.watch.commands)
    assert scene.watch.found == set()


def _see_database(scene: Scene) -> None:
    """Look at every column of every table, as text."""
    with contextlib.closing(sqlite3.connect(scene.home / "airflow.db")) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        assert {"task_instance", "xcom", "rendered_task_instance_fields", "log", "dag_run"} <= set(tables)
        for table in tables:
            for row in database.execute(f'select * from "{table}"'):
                for value in row:
                    scene.watch.see(f"the table {table}", value if isinstance(value, bytes) else str(value).encode())


def _see_files(scene: Scene) -> int:
    """Look at everything below Airflow's home: logs, leavings, what the command line's own folder holds. Return how many logs of tasks there are."""
    seen = 0
    for path in scene.home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            seen += "attempt=" in path.name
            scene.watch.see(f"the file {path.relative_to(scene.home)}", path.read_bytes())
    return seen


def _see_the_point(scene: Scene, policy: str) -> None:
    """The objects hold the secrets, sealed; nothing else of the point does, and the bucket shows none."""
    server = scene.environment
    keys = {word: server[word] for word in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    store = open_store(f"s3://{scene.bucket}/prod/{policy}", keys)
    repository = open_repository(store, scene.secrets.password)
    whole = Watch(patterns=scene.watch.patterns, folder=Path())
    for found in store.list("snapshots/"):
        _, document = load_snapshot(repository, found.key.rpartition("/")[2])
        scene.watch.see("recovery-point.json", b"".join(repository.read_file(lookup(repository, document.tree, "recovery-point.json"))))
        for path, node in walk(repository, document.tree):
            if path.startswith("resources/core/secrets/"):
                whole.see("the point", b"".join(repository.read_file(node)) if node.content else b"")
    for found in store.list(""):
        scene.watch.see(f"the bucket's object {found.key}", bytes(store.get(found.key)))

    assert len(whole.found) == PLANTED
