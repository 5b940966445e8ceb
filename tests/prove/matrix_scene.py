"""One application that tells itself how long it stood still, and whose two volumes betray a false label.

It writes n to volume `a`, synced, and then n to volume `b`, synced, again and again; it stops only between such pairs. So the rule: where it
stood still while both volumes were cut, both hold the same number. Cut at two instants of its work they hold two.

What it does it writes down with the time in a folder of this machine, mounted by `hostPath`: so a kill meets the step that it is meant for,
and the times outlive the container. The folder says also when it was last alive, so that a freeze which its own death has ended is not
counted on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.clock import SystemClock
from becalm.errors import BecalmError, NotFound
from becalm.kube.base import Verb
from becalm.kube.kinds import CLAIM, NAMESPACE, POD
from becalm.model import run_key
from becalm.policy.load import load_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from becalm.kube.base import Cluster, Kind
    from becalm.policy.spec import ProtectionPolicy
    from becalm.storage.base import ObjectStore

PASSWORD = "matrix"
TIMEOUT_SECONDS = 6.0
LENIENT_SECONDS = 5.0
"""How much longer than its timeout an application may stand still."""
READY_SECONDS = 180.0

WRITER = """
import os, time
files = [os.open(f"/{name}/counter", os.O_RDWR | os.O_CREAT, 0o600) for name in "ab"]
log = os.open("/stamps/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
def say(word, when):
    os.write(log, f"{word} {when:.4f} {time.time():.4f}\\n".encode())
def beat():
    os.close(os.open("/stamps/alive", os.O_WRONLY | os.O_CREAT, 0o644))
    os.utime("/stamps/alive")
number = max(int.from_bytes(os.pread(file, 8, 0), "big") for file in files)
last = time.time()
try:
    before = os.stat("/stamps/alive").st_mtime
except FileNotFoundError:
    before = last
say("started", before)
still = False
while True:
    if os.path.exists("/tmp/stop"):
        say("still", last)
        still = True
        os.close(os.open("/tmp/still", os.O_CREAT | os.O_WRONLY))
        while os.path.exists("/tmp/stop"):
            beat()
            time.sleep(0.005)
        os.unlink("/tmp/still")
    number += 1
    for file in files:
        os.pwrite(file, number.to_bytes(8, "big"), 0)
        os.fdatasync(file)
    last = time.time()
    if still:
        still = False
        say("goes", last)
    beat()
    time.sleep(0.002)
"""
STAMP = 'stamp() { t=$(date +%s.%N); echo "$1 $t $t" >>/stamps/log; }; '
FREEZE = ["sh", "-c", STAMP + "stamp asked; sleep 0.4; touch /tmp/stop; until [ -e /tmp/still ]; do sleep 0.02; done; sleep 0.4"]
THAW = ["sh", "-c", STAMP + "stamp thaw; sleep 0.2; rm -f /tmp/stop; while [ -e /tmp/still ]; do sleep 0.02; done"]

LAUNCH = """
import sys
import boto3, kubernetes.client
import becalm.actions.pipeline, becalm.kube.client, becalm.kube.pods, becalm.storage.s3
from becalm.cli import main
sys.stderr.write("loaded\\n")
sys.stderr.flush()
sys.stdin.readline()
main()
"""
"""`becalm`, which waits for a word before it begins: runs that are to be hit by one kill begin at one time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """One line of what the application and its hooks wrote down."""

    word: str
    """`started`, `asked`, `still`, `thaw` or `goes`."""
    when: float
    """For `still` the last write before it, for `goes` the first after it, for `started` when the process before it was last alive."""
    said: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stillness:
    """One time that the application stood still, as it says itself."""

    began: float
    ended: float
    over: bool


@dataclass(slots=True)
class Run:
    """One `becalm run` in a process of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    run_id: str
    offset: int
    """How much the application had written down before."""
    met: dict[str, float] = field(default_factory=dict)
    """When a line of progress was first seen, by its first word."""

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.close()

    def look(self) -> dict[str, float]:
        """Return when each kind of progress was first seen."""
        for line in self.log.read_text(errors="replace").splitlines():
            self.met.setdefault(line.split(":", 1)[0], time.time())
        return self.met

    @property
    def ended(self) -> bool:
        """Say whether the process is over."""
        return self.process.poll() is not None


@dataclass(slots=True)
class Scene:
    """An application with its policy: what one kill after the other meets."""

    cluster: Cluster
    store: Callable[[], ObjectStore]
    name: str
    folder: Path
    variables: dict[str, str]
    image: str
    url: str
    together: bool = False
    """The claims carry a label of their own, so that the storage cuts them as one group; otherwise a third claim keeps them from that."""
    under_airflow: bool = False
    """Airflow conducts the runs: cluster, bucket and password are connections."""
    runs: int = 0

    @property
    def policy_file(self) -> Path:
        """Where the policy stands."""
        return self.folder / f"{self.name}.yaml"

    @property
    def policy(self) -> ProtectionPolicy:
        """The policy."""
        return load_file(self.policy_file)

    def key(self, run_id: str) -> str:
        """Return the key of a run, as its labels have it."""
        return run_key(self.name, run_id, repository=self.store().url)

    def build(self) -> None:
        """Make namespace, claims, application, policy and repository."""
        (self.folder / "stamps").mkdir(parents=True)
        self.policy_file.write_text(json.dumps(self._document()))
        self._apply(NAMESPACE, {"metadata": {"name": self.name}})
        for claim in ("a", "b", "c"):
            labels = {"matrix": self.name} if self.together and claim in "ab" else {}
            self._apply(CLAIM, {"metadata": {"name": claim, "namespace": self.name, "labels": labels}, "spec": _CLAIM})
        kind = next(kind for kind in self.cluster.discover().kinds if str(kind) == "statefulsets.apps" and kind.preferred)
        self._apply(kind, {"metadata": {"name": "app", "namespace": self.name}, "spec": self._workload()})
        self.becalm("init", str(self.policy_file))
        eventually(self.writes, f"the application in {self.name} writes", seconds=READY_SECONDS)

    def _apply(self, kind: Kind, manifest: dict[str, object]) -> None:
        self.cluster.apply(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **manifest}, verb=Verb.CREATE)

    def _document(self) -> dict[str, object]:
        hook = {"select": {"labels": "app=matrix"}, "command": {"container": "app", "freeze": FREEZE, "thaw": THAW}}
        spec = {
            "cluster": "matrix",
            "select": {"namespaces": [self.name]},
            "volumes": {"rules": [{"match": {"claim": "c"}, "use": "skip", "because": "it is empty, and never bound"}]},
            "quiesce": {"timeout": f"{TIMEOUT_SECONDS:.0f}s", "hooks": [hook]},
            "target": {"url": self.url, "password": "env:BECALM_PASSWORD"},
            "retention": {"last": 1000},
        }
        if self.under_airflow:
            spec |= {
                "cluster": "kubernetes_default",
                "target": {"url": self.url, "connection": "becalm_s3", "password": "becalm_repository"},
            }
        return {"apiVersion": "becalm.dev/v1", "kind": "ProtectionPolicy", "metadata": {"name": self.name}, "spec": spec}

    def _workload(self) -> dict[str, object]:
        mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("a", "b", "stamps")]
        container = {"name": "app", "image": self.image, "imagePullPolicy": "IfNotPresent", "volumeMounts": mounts}
        volumes: list[dict[str, object]] = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in "ab"]
        volumes.append({"name": "stamps", "hostPath": {"path": str(self.folder / "stamps")}})
        spec = {"containers": [container | {"command": ["python3", "-c", WRITER]}], "volumes": volumes, "terminationGracePeriodSeconds": 0}
        labels = {"app": "matrix"}
        return {
            "replicas": 1,
            "serviceName": "app",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        }

    def becalm(self, *arguments: str) -> str:
        """Run the command line; demand success. Raises: RuntimeError."""
        done = subprocess.run(
            [sys.executable, "-m", "becalm.cli", *arguments], env=self.variables, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"becalm {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def start(self, *options: str) -> Run:
        """Start a run, which waits for its word once it is loaded."""
        self.runs += 1
        run_id = f"{self.name}-{self.runs}"
        log = self.folder / f"{run_id}.log"
        offset = len(self._lines())
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, "run", str(self.policy_file), "--run-id", run_id, *options],
                env=self.variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=sink,
                start_new_session=True,
            )
        return Run(process=process, log=log, run_id=run_id, offset=offset)

    def stamps(self, run: Run) -> list[Stamp]:
        """Return what was written down since a run began."""
        found = []
        for line in self._lines()[run.offset :]:
            word, when, said = line.split()
            found.append(Stamp(word=word, when=float(when), said=float(said)))
        return found

    def _lines(self) -> list[str]:
        try:
            text = (self.folder / "stamps" / "log").read_text()
        except FileNotFoundError:
            return []
        return [line for line in text.split("\n")[:-1] if line.count(" ") == 2]

    def alive(self) -> float:
        """Return when the application was last alive, standing still or not."""
        try:
            return (self.folder / "stamps" / "alive").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def writes(self) -> bool:
        """Say whether it is at work now: alive, and not standing still."""
        if time.time() - self.alive() > 1.0:
            return False
        last = next((line.split()[0] for line in reversed(self._lines()) if line.split()[0] in {"started", "still", "goes"}), "")
        return last in {"started", "goes"}

    def stillnesses(self, run: Run) -> list[Stillness]:
        """Return each time that it stood still since a run began. One that its death has ended was over when it was last alive."""
        found: list[Stillness] = []
        since: float | None = None
        for stamp in self.stamps(run):
            if stamp.word == "still" and since is None:
                since = stamp.when
            elif stamp.word == "goes" and since is not None:
                found.append(Stillness(began=since, ended=stamp.when, over=True))
                since = None
            elif stamp.word == "started" and since is not None:
                found.append(Stillness(began=since, ended=max(since, stamp.when), over=True))
                since = None
        if since is not None:
            dead = time.time() - self.alive() > 1.0
            found.append(Stillness(began=since, ended=self.alive() if dead else time.time(), over=dead))
        return found

    def is_ready(self) -> bool:
        """Say whether the cluster has the application ready."""
        try:
            pods = list(self.cluster.list(POD, namespace=self.name, labels="app=matrix"))
        except BecalmError:
            return False
        return any(
            item.get("type") == "Ready" and item.get("status") == "True"
            for pod in pods
            if not pod["metadata"].get("deletionTimestamp")
            for item in (pod.get("status") or {}).get("conditions") or []
        )

    def pod_uid(self) -> str:
        """Return the uid of the application's pod. Raises: NotFound."""
        for pod in self.cluster.list(POD, namespace=self.name, labels="app=matrix"):
            return str(pod["metadata"]["uid"])
        raise NotFound("the application has no pod", where=self.name)

    def remove(self) -> None:
        """Let the namespace go; that the cluster cannot now is fine."""
        try:
            self.cluster.delete(NAMESPACE, self.name)
        except BecalmError as error:
            sys.stderr.write(f"{self.name} stays: {error}\n")


_CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "32Mi"}}}


def eventually(look: Callable[[], object], what: str, *, seconds: float) -> None:
    """Look until it is so. Raises: RuntimeError."""
    clock, deadline = SystemClock(), time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:.0f} s: {what}")
        clock.sleep(0.1)


def environment(namespace: str) -> dict[str, str]:
    """Return the variables of the command line: those of this process, and Becalm's own namespace."""
    pods = os.environ.get("BECALM_MOVER_ENDPOINT_URL") or os.environ["AWS_ENDPOINT_URL"]
    return {
        **os.environ,
        "BECALM_PASSWORD": PASSWORD,
        "BECALM_MOVER_ENDPOINT_URL": pods,
        "BECALM_NAMESPACE": namespace,
        "OPENBLAS_NUM_THREADS": "1",
    }
