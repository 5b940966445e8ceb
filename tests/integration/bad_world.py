"""A small world for runs that go wrong: applications in the sandbox that know how long they stood still, and a repository.

Its claims: what a run left behind is found by its labels, wherever it is, and what is visible in the repository is counted.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from becalm.actions import pipeline
from becalm.actions.handover import Ports, Settings
from becalm.actions.sweep import KINDS
from becalm.clock import SystemClock
from becalm.errors import BecalmError, NotFound
from becalm.kube import connect
from becalm.kube.base import LABEL_RUN, Cluster, Mover, Verb
from becalm.kube.kinds import CLAIM, CONFIG_MAP, NAMESPACE, POD
from becalm.kube.pods import PodMover
from becalm.model import Manifest
from becalm.policy.load import load_file
from becalm.policy.spec import ProtectionPolicy
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import snapshot_ids
from becalm.storage import open_store
from becalm.storage.base import ObjectStore
from becalm.testing.builders import a_policy_document
from becalm.testing.sandbox import SandboxHandle
from becalm.testing.saved_points import CHEAP

PASSWORD = "correct horse"
IMAGE = "becalm.dev/busybox:1"
STAY = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
NOTE = "echo {word} $(date +%s.%N) >> /data/log"
FREEZE = ["sh", "-c", NOTE.format(word="F")]
THAW = ["sh", "-c", NOTE.format(word="T")]
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Remains:
    """What can be seen of a run after it has ended. All of it is empty after a run that failed as it should."""

    frozen: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    new_points: int = 0


@dataclass(kw_only=True)
class World:
    """Namespaces of one test, its policy and its repository."""

    sandbox: SandboxHandle
    cluster: Cluster
    folder: Path
    name: str = field(default_factory=lambda: f"bad-{os.getpid()}-{next(_numbers)}")
    url: str = ""
    """The target; a folder of the test unless it is told otherwise."""
    timeout: str = "3s"
    on_failure: str = "crash-consistent"
    freeze: list[str] = field(default_factory=lambda: FREEZE)
    container: str = ""
    """The container that the policy's hook names."""
    namespaces: list[str] = field(default_factory=list)
    spec: dict[str, Any] = field(default_factory=dict)
    """Further sections of the policy."""
    credentials: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Name the target."""
        self.url = self.url or f"file://{self.folder}/target"

    # What there is.

    @property
    def own(self) -> str:
        """Becalm's own namespace, of this test alone."""
        return f"{self.name}-own"

    def file(self) -> Path:
        """Write the policy and return its file."""
        hook: dict[str, Any] = {"freeze": self.freeze, "thaw": THAW}
        hooks = [{"select": {"labels": "app=db"}, "command": {**hook, **({"container": self.container} if self.container else {})}}]
        document = a_policy_document(
            name=self.name,
            select={"namespaces": self.namespaces},
            target={"url": self.url, "password": "env:BECALM_PASSWORD"},
            quiesce={"hooks": hooks, "timeout": self.timeout, "onFailure": self.on_failure},
            **self.spec,
        )
        path = self.folder / "policy.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    @property
    def policy(self) -> ProtectionPolicy:
        """The policy, as its file says it."""
        return load_file(self.file())

    @property
    def repository_url(self) -> str:
        """Where the policy's repository is."""
        return f"{self.url}/{self.name}"

    @property
    def store(self) -> ObjectStore:
        """The policy's part of the target."""
        return open_store(self.repository_url, self.credentials)

    def ports(self, **changes: Any) -> Ports:
        """The ports of a run in this process."""
        clock, cluster = SystemClock(), changes.pop("cluster", self.cluster)
        settings = Settings(
            cluster_name="sandbox", namespace=self.own, mover_image=IMAGE, export_timeout_seconds=5, store_environment=self.credentials
        )
        movers: Mover = PodMover(cluster, clock, image=IMAGE, policy=self.name)
        made = Ports(cluster=cluster, store=self.store, password=PASSWORD, clock=clock, settings=settings, movers=movers)
        return replace(made, **changes)

    # What is made.

    def make_repository(self) -> None:
        """Make the policy's repository, with a password that is quickly tried."""
        init_repository(open_store(self.repository_url, self.credentials, create=True), PASSWORD, kdf=CHEAP)

    def application(self, suffix: str = "shop", *, claims: tuple[str, ...] = ("data",), megabytes: float = 0) -> str:
        """Start an application: a pod `db` that mounts claims, a ConfigMap, a hook that writes down when it was frozen. Select it."""
        namespace = f"{self.name}-{suffix}"
        self.create(NAMESPACE, {"metadata": {"name": namespace}})
        self.create(CONFIG_MAP, {"metadata": {"name": "settings", "namespace": namespace}, "data": {"colour": "blue"}})
        for claim in claims:
            self.create(CLAIM, {"metadata": {"name": claim, "namespace": namespace}, "spec": a_claim()})
        fill = f"head -c {int(megabytes * 1e6)} /dev/urandom > /data/bulk; " if megabytes else ""
        mounts = [{"name": claim, "mountPath": "/data" if number == 0 else f"/{claim}"} for number, claim in enumerate(claims)]
        container: Manifest = {
            "name": "main",
            "image": IMAGE,
            "command": ["sh", "-c", f"{fill}echo here > /data/file; {STAY}"],
            "readinessProbe": {"exec": {"command": ["test", "-e", "/data/file"]}, "periodSeconds": 1},
            "volumeMounts": mounts,
        }
        volumes = [{"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims]
        spec = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": volumes}
        self.create(POD, {"metadata": {"name": "db", "namespace": namespace, "labels": {"app": "db"}}, "spec": spec})
        eventually(lambda: is_ready(self.cluster.get(POD, "db", namespace=namespace)))
        self.namespaces.append(namespace)
        return namespace

    def create(self, kind: Any, manifest: Manifest) -> Manifest:
        """Create an object."""
        return self.cluster.apply(kind, manifest, verb=Verb.CREATE)

    # What is done.

    def protect(self, run_id: str = "a run", **changes: Any) -> pipeline.Outcome:
        """Make a recovery point in this process."""
        return pipeline.protect(self.policy, run_id=run_id, ports=self.ports(**changes))

    def at(self, words: str, act: Callable[[], object]) -> Callable[..., None]:
        """Return a progress that does something once, when the run says these words."""
        done: list[str] = []

        def progress(message: str, **_: Any) -> None:
            if message.startswith(words) and not done:
                done.append(message)
                act()

        return progress

    @property
    def environment(self) -> dict[str, str]:
        """What the command line is told by variables."""
        return {
            **os.environ,
            "KUBECONFIG": str(self.sandbox.kubeconfig),
            "BECALM_PASSWORD": PASSWORD,
            "BECALM_NAMESPACE": self.own,
            "BECALM_MOVER_IMAGE": IMAGE,
        }

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end."""
        command = [sys.executable, "-m", "becalm.cli", *arguments]
        return subprocess.run(command, env=self.environment | environment, capture_output=True, text=True, check=False, timeout=60)

    @contextmanager
    def running(self, run_id: str) -> Iterator[subprocess.Popen[str]]:
        """Begin `becalm run`, with its progress on stderr; kill what is left of it."""
        command = [sys.executable, "-m", "becalm.cli", "run", str(self.file()), "--run-id", run_id]
        process = subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    # What is seen.

    def points(self) -> list[str]:
        """Return the ids of what is visible in the repository."""
        return snapshot_ids(open_repository(self.store, PASSWORD))

    def leftovers(self) -> tuple[str, ...]:
        """Return every temporary object of the runs of this test, wherever it is."""
        found = []
        served = {str(kind) for kind in self.cluster.discover().kinds}
        for kind in (kind for kind in KINDS if str(kind) in served):
            for item in self.cluster.list(kind, labels=LABEL_RUN):
                metadata = item["metadata"]
                if metadata["labels"].get("becalm.dev/policy") == self.name:
                    found.append(f"{kind.resource}/{metadata.get('namespace', '')}/{metadata['name']}")
        return tuple(found)

    def log(self, namespace: str) -> list[tuple[str, float]]:
        """Return when an application was frozen and thawed, as it tells itself."""
        try:
            said = self.cluster.exec(namespace, "db", container="main", command=["sh", "-c", "cat /data/log 2>/dev/null"]).stdout.decode()
        except NotFound:
            return []
        return [(line.split()[0], float(line.split()[1])) for line in said.splitlines()]

    def frozen(self) -> tuple[str, ...]:
        """Return the applications that stand still."""
        last = {namespace: self.log(namespace)[-1:] for namespace in self.namespaces}
        return tuple(namespace for namespace, events in last.items() if events and events[0][0] == "F")

    def longest_freeze(self) -> float:
        """Return the longest time that one application stood still."""
        longest = 0.0
        for namespace in self.namespaces:
            since = None
            for word, moment in [*self.log(namespace), ("T", time.time())]:
                if word == "F":
                    since = moment if since is None else since
                elif since is not None:
                    longest, since = max(longest, moment - since), None
        return longest

    def remains(self, before: int = 0) -> Remains:
        """Say what is left of all runs; `before` counts the recovery points that may be there."""
        return Remains(frozen=self.frozen(), leftovers=self.leftovers(), new_points=len(self.points()) - before)

    def end(self) -> None:
        """Remove the namespaces."""
        for namespace in (*self.namespaces, self.own):
            self.cluster.delete(NAMESPACE, namespace)


def a_world(sandbox: SandboxHandle, folder: Path) -> World:
    """Make a world in a sandbox."""
    return World(sandbox=sandbox, cluster=connect(kubeconfig=str(sandbox.kubeconfig)), folder=folder)


def a_claim(size: str = "16Mi") -> Manifest:
    """Describe a claim on the sandbox's storage."""
    return {"accessModes": ["ReadWriteOnce"], "storageClassName": "standard", "resources": {"requests": {"storage": size}}}


def is_ready(pod: Manifest) -> bool:
    """Say whether a pod is ready."""
    return any(item["type"] == "Ready" and item["status"] == "True" for item in (pod.get("status") or {}).get("conditions") or [])


def eventually(look: Callable[[], object], seconds: float = 20) -> None:
    """Wait until there is something to see."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def sound(error: BecalmError) -> bool:
    """Say whether an error names the place and the remedy in one line."""
    return bool(error.where and error.hint and error.message and "\n" not in str(error) and "Traceback" not in str(error))


def document_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Read the one JSON document that a command printed."""
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
