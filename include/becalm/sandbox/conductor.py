"""Airflow as a process of this machine: started, asked by its REST API, stopped. For the demo and the tests, not for production.

It never imports Airflow: `airflow standalone` runs beside us with a home of its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from becalm.errors import ClusterUnavailable, MoverFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

START_SECONDS = 120.0
_ATTEMPTS, _BROKEN, _IS_THERE = 6, 500, 409
USER = "admin"
LOCAL_SETTINGS = "import sys\n\nfrom becalm.airflow.warm import warm\n\nwarm(sys.argv)\n"
"""What Airflow imports at the start of each of its processes; deploy/airflow_local_settings.py says the same of an Airflow in production."""


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class Conductor:
    """One Airflow with its own home. `home` keeps its secrets, so that a second start is the same Airflow."""

    home: Path
    dags: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    database_url: str = ""
    """SQLAlchemy's URL; empty is SQLite in `home`."""
    parallelism: int = 8
    start_seconds: float = START_SECONDS
    """How long it may take until it is healthy."""
    _token: str = ""
    _secrets: dict[str, Any] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its page."""
        return f"http://127.0.0.1:{self._kept()['port']}"

    @property
    def password(self) -> str:
        """The password of the user `admin`."""
        return str(self._kept()["password"])

    def _kept(self) -> dict[str, Any]:
        """Return ports and secrets, made once and kept in the home."""
        if self._secrets:
            return self._secrets
        path = self.home / "conductor.json"
        if not path.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            ports = {name: free_port() for name in ("port", "worker_log_port", "trigger_log_port")}
            secrets = {"password": token_urlsafe(9), "jwt": token_hex(32), "api": token_hex(32), "fernet": _fernet_key()}
            path.write_text(json.dumps({**ports, **secrets}))
            path.chmod(0o600)
        self._secrets = json.loads(path.read_text())
        return self._secrets

    def _settings(self) -> dict[str, str]:
        """Return Airflow's environment: everything that must be pinned or is too slow by default."""
        kept = self._kept()
        passwords = self.home / "passwords.json"
        passwords.write_text(json.dumps({USER: kept["password"]}))
        passwords.chmod(0o600)
        settings = {
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__PLUGINS_FOLDER": str(self.dags.parent / "plugins"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__PARALLELISM": str(self.parallelism),
            "CORE__FERNET_KEY": kept["fernet"],
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "API__HOST": "127.0.0.1",
            "API__PORT": str(kept["port"]),
            "API__BASE_URL": self.url,
            "API__SECRET_KEY": kept["api"],
            "API_AUTH__JWT_SECRET": kept["jwt"],
            "LOGGING__WORKER_LOG_SERVER_PORT": str(kept["worker_log_port"]),
            "LOGGING__TRIGGER_LOG_SERVER_PORT": str(kept["trigger_log_port"]),
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
        }
        if self.database_url:
            settings["DATABASE__SQL_ALCHEMY_CONN"] = self.database_url
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        return {
            **inherited,
            "AIRFLOW_HOME": str(self.home),
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', '')}",
            **self.environment,
        }

    def running(self) -> bool:
        """Say whether all four components report that they are healthy."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v2/monitor/health", timeout=2) as reply:
                health = json.load(reply)
        except (OSError, ValueError):
            return False
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((health.get(part) or {}).get("status") == "healthy" for part in parts)

    def start(self, report: Callable[[str], None] = lambda _: None) -> None:
        """Start it in a process group of its own, or adopt the one that runs. Raises ClusterUnavailable with the end of its log."""
        if self.running():
            return
        self._write_local_settings()
        log = self.home / "standalone.log"
        with log.open("ab") as sink:
            process = self._process = subprocess.Popen(
                [str(Path(sys.executable).parent / "airflow"), "standalone"],
                env=self._settings(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_heed_interrupts,  # noqa: PLW1509  (one call into C, no thread holds a lock in it)
            )
        (self.home / "pid").write_text(str(process.pid))
        began = time.monotonic()
        while not self.running():
            waited = time.monotonic() - began
            if process.poll() is not None or waited > self.start_seconds:
                tail = log.read_text(errors="replace")[-2000:]
                self.stop()
                raise ClusterUnavailable(f"Airflow did not start within {waited:.0f} s", where=str(log), hint=tail)
            report(f"Airflow starts ({waited:.0f} s)")
            time.sleep(0.5)

    def _write_local_settings(self) -> None:
        """Let the processes that fork tasks import ahead what tasks need."""
        path = self.home / "config" / "airflow_local_settings.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(LOCAL_SETTINGS)

    def stop(self) -> None:
        """Stop it: SIGINT to the parent, which ends its children, then what is left of its group by id."""
        path = self.home / "pid"
        if not path.exists():
            return
        group = int(path.read_text())
        for wanted, patience in ((signal.SIGINT, 15.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 2.0)):
            members = _group(group)
            if not members:
                break
            for pid in [group] if wanted is signal.SIGINT and group in members else members:
                _signal(pid, wanted)
            deadline = time.monotonic() + patience
            while _group(group) and time.monotonic() < deadline:
                time.sleep(0.1)
        path.unlink(missing_ok=True)
        if self._process is not None:
            self._process.wait()

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Ask the REST API; return the JSON answer. Raises MoverFailed with the answer's text for any refusal."""
        for attempt in range(1, _ATTEMPTS + 1):
            asked = urllib.request.Request(f"{self.url}{path}", method=method, data=None if body is None else json.dumps(body).encode())
            asked.add_header("Content-Type", "application/json")
            try:
                asked.add_header("Authorization", f"Bearer {self._login()}")
                with urllib.request.urlopen(asked, timeout=30) as reply:
                    text = reply.read()
                    return json.loads(text) if text else None
            except urllib.error.HTTPError as error:
                if error.code == 401 and attempt == 1:
                    self._token = ""
                    continue
                if error.code >= _BROKEN and attempt < _ATTEMPTS:
                    time.sleep(1)  # SQLite knows one writer at a time, and Airflow gives up after five seconds
                    continue
                raise MoverFailed(f"Airflow answers {error.code}: {error.read()[:500].decode(errors='replace')}", where=path) from error
            except OSError as error:
                raise ClusterUnavailable(f"Airflow does not answer: {error}", where=f"{self.url}{path}") from error
        raise MoverFailed("Airflow does not accept its own administrator", where=path)

    def _login(self) -> str:
        if not self._token:
            asked = urllib.request.Request(
                f"{self.url}/auth/token", method="POST", data=json.dumps({"username": USER, "password": self.password}).encode()
            )
            asked.add_header("Content-Type", "application/json")
            with urllib.request.urlopen(asked, timeout=30) as reply:
                self._token = json.load(reply)["access_token"]
        return self._token

    def make_pools(self) -> None:
        """Make the pools that Becalm's DAGs use, as an operator of Airflow would. Raises MoverFailed."""
        command = [sys.executable, "-m", "becalm.airflow.setup"]
        done = subprocess.run(command, env=self._settings(), cwd=self.home, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MoverFailed(f"the pools could not be made: {done.stderr.strip()[-500:]}", where=str(self.home))

    def wait_for_dag(self, dag_id: str, *, seconds: float = 60.0) -> None:
        """Wait until a DAG is there and not stale. Raises ClusterUnavailable."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if not self.request("GET", f"/api/v2/dags/{quote(dag_id)}").get("is_stale"):
                    return
            except (MoverFailed, ClusterUnavailable):
                pass
            time.sleep(0.5)
        errors = self.request("GET", "/api/v2/importErrors").get("import_errors", [])
        raise ClusterUnavailable(f"the DAG {dag_id} did not appear within {seconds:.0f} s", where=str(self.dags), hint=str(errors)[:1500])

    def trigger(self, dag_id: str, conf: Mapping[str, object] | None = None) -> str:
        """Start a run by hand; return its id. The id is our own, so that asking twice starts one."""
        run_id = f"by_hand__{uuid4()}"
        asked = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf or {})}
        try:
            self.request("POST", f"/api/v2/dags/{quote(dag_id)}/dagRuns", asked)
        except MoverFailed as refused:
            if f"answers {_IS_THERE}:" not in str(refused):
                raise
        return run_id

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run as the API tells them."""
        found = self.request("GET", f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}/taskInstances?limit=200")
        return list(found["task_instances"])

    def wait(self, dag_id: str, run_id: str, *, seconds: float, report: Callable[[str], None] = lambda _: None) -> str:
        """Wait for a run to end; return its state. `report` hears each change of a task. Raises ClusterUnavailable when time is over."""
        deadline, seen = time.monotonic() + seconds, dict[str, str]()
        while time.monotonic() < deadline:
            for task in self.tasks(dag_id, run_id):
                name = task["task_id"] + (f"[{task['map_index']}]" if task["map_index"] >= 0 else "")
                if task["state"] and seen.get(name) != task["state"]:
                    seen[name] = task["state"]
                    if task["state"] in ("success", "failed", "upstream_failed", "skipped", "up_for_retry"):
                        report(f"{name}: {task['state']}")
            state = str(self.request("GET", f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}")["state"])
            if state in ("success", "failed"):
                return state
            time.sleep(0.5)
        raise ClusterUnavailable(f"run {run_id} of {dag_id} did not end within {seconds:.0f} s", where=self.url, hint=str(seen))

    def failures(self, dag_id: str, run_id: str) -> str:
        """Return the ends of the logs of every task of a run that failed."""
        parts = []
        for task in self.tasks(dag_id, run_id):
            if task["state"] == "failed":
                text = self.log(dag_id, run_id, task["task_id"], map_index=task["map_index"], attempt=max(1, task["try_number"]))
                parts.append(f"--- {task['task_id']}[{task['map_index']}]\n{text[-3000:]}")
        return "\n".join(parts)

    def log(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, attempt: int = 1) -> str:
        """Return the log of one try of a task, as text."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}/taskInstances/{quote(task_id)}/logs/{attempt}?map_index={map_index}"
        content = self.request("GET", path).get("content", [])
        return "\n".join(str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in content)


def _fernet_key() -> str:
    from cryptography.fernet import Fernet  # noqa: PLC0415

    return Fernet.generate_key().decode()


def _heed_interrupts() -> None:
    """Undo what a shell does to a background process: ignore SIGINT, which is how Airflow is stopped."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _group(group: int) -> list[int]:
    """Return the living members of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (OSError, IndexError):
                continue
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def _signal(pid: int, wanted: signal.Signals) -> None:
    try:
        os.kill(pid, wanted)
    except ProcessLookupError:
        return
