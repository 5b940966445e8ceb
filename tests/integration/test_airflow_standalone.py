"""Airflow as it really runs (scheduler, triggerer, API server) over a sandbox cluster: what one process with `dag.test` cannot show."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from becalm.catalog import epochs
from becalm.kube import connect
from becalm.kube.base import Kind, Verb
from becalm.repository.reader import init_repository
from becalm.storage import open_store
from becalm.testing.sandbox import running_sandbox

pytestmark = pytest.mark.airflow

REPOSITORY = Path(__file__).parents[2]
PASSWORD = "a password for tests"

POLICY = """\
apiVersion: becalm.dev/v1
kind: ProtectionPolicy
metadata: {{name: shop}}
spec:
  cluster: sandbox
  schedule: "0 0 1 1 *"
  select: {{namespaces: [shop]}}
  quiesce:
    hooks:
      - select: {{labels: app=db}}
        command: {{container: db, freeze: [sh, -c, "echo frozen >> /data/journal"], thaw: [sh, -c, "echo thawed >> /data/journal"]}}
  objectives: {{rpo: 1d}}
  alerts: {{notify: [chat]}}
  target: {{url: "file://{store}", password: "env:BECALM_TEST_PASSWORD"}}
"""

OBJECTS: tuple[tuple[Kind, dict[str, Any]], ...] = (
    (Kind(group="", version="v1", resource="namespaces", kind="Namespace", namespaced=False), {"metadata": {"name": "shop"}}),
    (
        Kind(group="", version="v1", resource="persistentvolumeclaims", kind="PersistentVolumeClaim", namespaced=True),
        {
            "metadata": {"name": "data", "namespace": "shop"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        },
    ),
    (
        Kind(group="", version="v1", resource="pods", kind="Pod", namespaced=True),
        {
            "metadata": {"name": "db", "namespace": "shop", "labels": {"app": "db"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "db",
                        "image": "becalm.dev/busybox:1",
                        "command": ["sh", "-c", "touch /data/journal; sleep 3600"],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }
                ],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            },
        },
    ),
)


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class RefusedError(Exception):
    """An answer that is none."""

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Airflow:
    """Airflow's REST interface."""

    url: str
    token: str

    def ask(self, path: str, document: dict[str, Any] | None = None) -> Any:
        """Get a document, or post one and get the answer."""
        body = None if document is None else json.dumps(document).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", data=body, headers=headers), timeout=20) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                raise RefusedError(error.code) from None

    def trigger(self, dag: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run, and return its id. Airflow on SQLite answers 500 while another writer is busy: it is asked again, for the same run."""
        run = f"by-hand-{uuid.uuid4()}"

        def begun() -> bool:
            try:
                self.ask(f"/api/v2/dags/{dag}/dagRuns", {"dag_run_id": run, "logical_date": None, "conf": conf or {}})
            except RefusedError as refused:
                if refused.code < 500 and refused.code != 409:
                    pytest.fail(f"{dag} was not started: {refused}")
                return refused.code == 409
            return True

        until(begun, 120)
        return run

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG; none where there is no such DAG yet."""
        try:
            found: list[dict[str, Any]] = self.ask(f"/api/v2/dags/{dag}/dagRuns")["dag_runs"]
        except RefusedError as refused:
            if refused.code != 404:
                raise
            return []
        return found

    def states(self, dag: str, run: str) -> dict[str, str]:
        """Return the state of each task of a run."""
        found = self.ask(f"/api/v2/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {f"{ti['task_id']}:{ti['rendered_map_index'] or ''}".rstrip(":"): ti["state"] for ti in found}


def until(answer: Callable[[], Any], seconds: float) -> Any:
    """Wait for an answer that is true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(RefusedError, urllib.error.URLError, ConnectionError, TimeoutError):
            if found := answer():
                return found
        time.sleep(0.3)
    pytest.fail("it did not become true in time")


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook on this machine, and what it was told."""

    port: int
    told: list[tuple[str, str, str]] = field(default_factory=list)
    """Policy, kind and state of each message."""


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.told.append((body["policy"], body["kind"], body["state"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Hook(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, hook: Hook) -> Iterator[Airflow]:
    """Airflow standalone with two policies: one is broken, the other was seen two days ago and has never run, though a day is its objective."""
    home = tmp_path_factory.mktemp("airflow")
    store, policies = home / "store", home / "policies"
    policies.mkdir()
    (policies / "shop.yaml").write_text(POLICY.format(store=store))
    (policies / "odd.yaml").write_text("kind: ProtectionPolicy\nmetadata: {name: odd}\n")
    bucket = open_store(f"file://{store}/shop", {}, create=True)
    init_repository(bucket, PASSWORD)
    epochs.note(bucket, schedule="0 0 1 1 *", timezone="UTC", now=datetime.now(UTC) - timedelta(days=2))
    (home / "config").mkdir()
    (home / "config" / "airflow_local_settings.py").write_bytes((REPOSITORY / "deploy" / "airflow_local_settings.py").read_bytes())
    (home / "passwords.json").write_text(json.dumps({"admin": "admin"}))
    with running_sandbox(home / "sandbox") as sandbox:
        cluster = connect(kubeconfig=str(sandbox.kubeconfig))
        for kind, body in OBJECTS:
            cluster.apply(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **body}, verb=Verb.CREATE)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "BECALM", "KUBECONFIG"))}
        environment = (
            kept
            | of_standalone(home)
            | {
                "AIRFLOW_CONN_SANDBOX": json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(sandbox.kubeconfig)}}),
                "AIRFLOW_CONN_CHAT": json.dumps({"conn_type": "http", "host": "127.0.0.1", "schema": "http", "port": hook.port}),
                # A kubeconfig in the environment of a worker must not contradict the connection in the triggerer.
                "KUBECONFIG": str(sandbox.kubeconfig),
                "BECALM_POLICIES": str(policies),
                "BECALM_TEST_PASSWORD": PASSWORD,
            }
        )
        for command in (("-m", "airflow", "db", "migrate"), ("-m", "becalm.airflow.setup")):
            subprocess.run([sys.executable, *command], env=environment, check=True, capture_output=True, timeout=180)
        with standalone(environment, home):
            url = environment["AIRFLOW__API__BASE_URL"]
            yield Airflow(url, until(lambda: log_in(url), 600))


def of_standalone(home: Path) -> dict[str, str]:
    """Return the variables of an Airflow of its own: its home, free ports of this machine, one user, and quick looks at what is new."""
    api, workers_log, trigger_log, health = free_ports(4)
    return {
        "AIRFLOW_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # it starts its components by name
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{api}",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(workers_log),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log),
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": str(health),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
    }


def log_in(url: str) -> str:
    """Return a token."""
    body = json.dumps({"username": "admin", "password": "admin"}).encode()
    request = urllib.request.Request(f"{url}/auth/token", data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            token: str = json.load(reply)["access_token"]
            return token
    except urllib.error.HTTPError as error:
        with error:
            raise RefusedError(error.code) from None


@contextlib.contextmanager
def standalone(environment: dict[str, str], home: Path) -> Iterator[None]:
    """Run `airflow standalone` in a process group of its own; end it by SIGINT, as it wants, and then what is left of the group."""
    with (home / "airflow.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_broken_policy_alerts_by_itself(airflow: Airflow) -> None:
    """Its DAG has a failed run soon after it appears, without anybody's doing."""
    failed = until(lambda: [run for run in airflow.runs("becalm_error_odd") if run["state"] == "failed"], 120)

    assert len(failed) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What was seen and told before a run by hand, of it, and after it."""

    begun: list[dict[str, Any]]
    looks: list[str]
    before: list[tuple[str, str, str]]
    state: str
    states: dict[str, str]
    committed: dict[str, Any]
    after: list[tuple[str, str, str]]


def ended(airflow: Airflow, dag: str, run: str) -> str:
    """Wait for the end of a run, and return its state."""

    def over() -> str:
        state: str = airflow.ask(f"/api/v2/dags/{dag}/dagRuns/{run}")["state"]
        return state if state in ("success", "failed") else ""

    return str(until(over, 180))


@pytest.fixture(scope="module")
def story(airflow: Airflow, hook: Hook) -> Story:
    """Two looks at the objectives, a run by hand, and two looks more."""

    def look() -> str:
        return ended(airflow, "becalm_rpo", airflow.trigger("becalm_rpo"))

    until(lambda: airflow.ask("/api/v2/dags/becalm_policy_shop")["timetable_summary"], 60)
    until(lambda: airflow.ask("/api/v2/dags/becalm_rpo")["timetable_summary"], 60)
    begun = airflow.runs("becalm_policy_shop")
    looks = [look(), look()]
    before = list(hook.told)
    started = time.monotonic()
    run = airflow.trigger("becalm_policy_shop", {"note": "by hand"})
    state = ended(airflow, "becalm_policy_shop", run)
    print(f"from trigger to the end: {time.monotonic() - started:.1f} s")
    states = airflow.states("becalm_policy_shop", run)
    path = f"/api/v2/dags/becalm_policy_shop/dagRuns/{run}/taskInstances/commit/xcomEntries/return_value?deserialize=true"
    committed = airflow.ask(path)["value"] if states.get("commit") == "success" else {}
    looks += [look(), look()]
    return Story(begun=begun, looks=looks, before=before, state=state, states=states, committed=committed, after=hook.told[len(before) :])


def test_a_run_by_hand_makes_a_recovery_point(story: Story) -> None:
    """Triggered over REST, without a logical date; the mover's pod is waited for by the triggerer."""
    assert story.begun == []  # a new policy waits for its next tick
    assert (story.state, set(story.states.values())) == ("success", {"success"})
    assert {"protect.thaw:shop", "upload:shop/data"} <= set(story.states)
    assert story.committed["complete"] is True


def test_what_never_ran_is_told_once_and_its_recovery_once(story: Story) -> None:
    """The watch reads the bucket: no run failed, there was none. A look at what was told already says nothing."""
    assert story.looks == ["success"] * 4
    assert story.before == [("shop", "rpo", "begun")]
    assert story.after == [("shop", "rpo", "ended")]


def test_a_word_the_form_does_not_allow_is_refused_by_airflow(airflow: Airflow) -> None:
    """The form is a schema: a note that is too long starts no run."""
    until(lambda: airflow.ask("/api/v2/dags/becalm_policy_shop")["timetable_summary"], 60)
    with pytest.raises(RefusedError) as refused:
        airflow.ask("/api/v2/dags/becalm_policy_shop/dagRuns", {"logical_date": None, "conf": {"note": "x" * 1001}})

    assert refused.value.code == 400
