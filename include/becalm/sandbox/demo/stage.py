"""What the demo stands on: its folder, the sandbox cluster as a process, Airflow, a policy, and Becalm's command line.

Everything is adopted where it runs already, so that a second demo takes up what is there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import yaml

from becalm.errors import BecalmError, ClusterUnavailable, PermanentError, UsageError
from becalm.sandbox.applications import FREEZE, THAW
from becalm.sandbox.conductor import Conductor
from becalm.storage import CREDENTIALS

POLICY = "shop"
DAG = f"becalm_policy_{POLICY}"
CLUSTER = "kubernetes_default"
START_SECONDS = 20.0


@dataclass(slots=True)
class Stage:
    """The folder of the demo and what runs from it."""

    folder: Path
    dags: Path
    kubeconfig: str = ""
    """A real cluster's; empty is the sandbox."""
    target: str = ""
    """A bucket's URL; empty is a folder of this machine."""
    _conductor: Conductor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is started. Raises UsageError."""
        if self.kubeconfig and not self.target:
            hint = "add TARGET=s3://bucket/prefix, with AWS_ENDPOINT_URL and keys in the environment"
            raise UsageError("the pods of a real cluster cannot write to a folder of this machine", where="TARGET", hint=hint)
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def real(self) -> bool:
        """Whether the cluster is a real one."""
        return bool(self.kubeconfig)

    @property
    def namespace(self) -> str:
        """Where the application lives: in a real cluster, a namespace that nobody else has."""
        return "becalm-demo-shop" if self.real else "shop"

    @property
    def kubeconfig_path(self) -> str:
        """The kubeconfig of the cluster in use."""
        return self.kubeconfig or str(self.folder / "cluster" / "kubeconfig")

    @property
    def policy_file(self) -> Path:
        """The policy, as a user would write it."""
        return self.folder / "policies" / f"{POLICY}.yaml"

    @property
    def target_url(self) -> str:
        """Where recovery points go."""
        return self.target or f"file://{self.folder}/backups"

    @property
    def password_file(self) -> Path:
        """The repository's password, made once."""
        path = self.folder / "password"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(token_urlsafe(24))
        return path

    @property
    def conductor(self) -> Conductor:
        """Airflow, not necessarily started."""
        if self._conductor is None:
            self._conductor = Conductor(home=self.folder / "airflow", dags=self.dags, environment=self._connections(), parallelism=6)
        return self._conductor

    def _connections(self) -> dict[str, str]:
        """Return Airflow's connections, as an operator of it would make them."""
        given = os.environ
        cluster = {
            "kube_config_path": self.kubeconfig_path,
            **({"becalm_mover_image": image} if (image := given.get("BECALM_MOVER_IMAGE")) else {}),
        }
        connections: dict[str, dict[str, Any]] = {CLUSTER: {"conn_type": "kubernetes", "extra": cluster}}
        if self.target:
            extra = {
                "endpoint_url": given.get("AWS_ENDPOINT_URL"),
                "mover_endpoint_url": given.get("BECALM_MOVER_ENDPOINT_URL"),
                "region_name": given.get("AWS_REGION"),
            }
            keys = {"login": given.get("AWS_ACCESS_KEY_ID"), "password": given.get("AWS_SECRET_ACCESS_KEY")}
            connections["becalm_s3"] = {"conn_type": "aws", **keys, "extra": {name: value for name, value in extra.items() if value}}
        variables = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(connection) for name, connection in connections.items()}
        return {**variables, "BECALM_POLICIES": str(self.policy_file.parent)}

    def write_policy(self) -> None:
        """Write the policy's file, whole."""
        target: dict[str, Any] = {"url": self.target_url, "password": f"file:{self.password_file}"}
        if self.target:
            target["connection"] = "becalm_s3"
        hook = {"select": {"labels": "app=orders-db"}, "command": {"container": "db", "freeze": list(FREEZE), "thaw": list(THAW)}}
        spec = {
            "cluster": CLUSTER,
            "select": {"namespaces": [self.namespace]},
            "quiesce": {"timeout": "20s", "hooks": [hook]},
            "target": target,
            "retention": {"last": 5, "daily": 7},
        }
        document = {"apiVersion": "becalm.dev/v1", "kind": "ProtectionPolicy", "metadata": {"name": POLICY}, "spec": spec}
        self.policy_file.parent.mkdir(exist_ok=True)
        part = self.policy_file.with_suffix(".part")
        part.write_text(yaml.safe_dump(document, sort_keys=False))
        part.rename(self.policy_file)

    def start_cluster(self) -> None:
        """Start the sandbox, or adopt the one that serves this folder. Raises ClusterUnavailable."""
        if self.real or self._sandbox_serves():
            return
        state = self.folder / "cluster"
        state.mkdir(exist_ok=True)
        with (state / "sandbox.log").open("ab") as log:
            command = [sys.executable, "-m", "becalm.sandbox", "serve", "--state", str(state)]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        (state / "pid").write_text(str(process.pid))
        deadline = time.monotonic() + START_SECONDS
        while not self._sandbox_serves():
            if process.poll() is not None or time.monotonic() > deadline:
                tail = (state / "sandbox.log").read_text(errors="replace")[-1500:]
                raise ClusterUnavailable("the sandbox cluster did not start", where=str(state / "sandbox.log"), hint=tail)
            time.sleep(0.05)

    def _sandbox_serves(self) -> bool:
        try:
            card = json.loads((self.folder / "cluster" / "server.json").read_text())
            with urllib.request.urlopen(f"http://127.0.0.1:{card['port']}/readyz", timeout=2):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 401  # it serves, and asks who we are
        except (OSError, ValueError, KeyError):
            return False

    def stop(self) -> None:
        """End Airflow and the sandbox of this folder, by the ids of their processes. What they stored stays."""
        self.conductor.stop()
        path = self.folder / "cluster" / "pid"
        if not path.exists():
            return
        pid = int(path.read_text())
        if b"becalm.sandbox" in _command_line(pid):
            os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + START_SECONDS
            while b"becalm.sandbox" in _command_line(pid) and time.monotonic() < deadline:
                time.sleep(0.05)
        path.unlink()

    def becalm(self, *arguments: str) -> Any:
        """Run Becalm's command line; return its JSON. Raises PermanentError with what it said."""
        environment = {
            **{name: value for name, value in os.environ.items() if name in CREDENTIALS or not name.startswith(("BECALM_", "KUBE"))},
            **{name: value for name, value in os.environ.items() if name in ("BECALM_MOVER_IMAGE", "BECALM_MOVER_ENDPOINT_URL")},
            "KUBECONFIG": self.kubeconfig_path,
        }
        command = [sys.executable, "-m", "becalm.cli", *arguments, "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stdout.strip() or done.stderr.strip())[-3000:]
            raise PermanentError(f"becalm {arguments[0]} ended with exit code {done.returncode}: {said}", where=str(self.policy_file))
        return json.loads(done.stdout)

    def points(self) -> list[dict[str, Any]]:
        """Return the recovery points that there are; without a repository, none."""
        try:
            return list(self.becalm("points", str(self.policy_file))["points"])
        except BecalmError:
            return []


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
