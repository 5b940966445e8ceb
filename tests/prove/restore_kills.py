"""`becalm restore` dies at a random moment, and the same command is run again: on a real cluster, with a volume and a workload that mounts it.

    python -m tests.prove.restore_kills [--kills 50] [--scenes 2] [--seed 0]

What an undisturbed restore makes is the measure. After each kill and one more run: the same objects, each saying the same, owned by owners that
are there; the same files in the volume; one volume for each claim; no mover that is left; and a further run changes nothing. Scenes go side by
side, each in a namespace of its own. It needs root and a cluster of this machine no more than any restore does: a kubeconfig, a bucket, an image.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from becalm.errors import BecalmError, NotFound
from becalm.kube import connect
from becalm.kube.base import LABEL_ROLE, Kind, Verb
from becalm.kube.diffing import compare
from becalm.kube.kinds import CLAIM, CONFIG_MAP, NAMESPACE, POD, SECRET
from becalm.storage import open_store
from tests.prove.kills import credentials, killed, remove_bucket
from tests.prove.matrix_scene import READY_SECONDS, environment, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.kube.base import Cluster
    from becalm.model import Manifest

NEEDED = ("KUBECONFIG", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "BECALM_MOVER_IMAGE")
CONFIGURATIONS, SECRETS, FILES = 150, 30, 120
EARLIEST_SHARE = 0.3
"""Before so much of an undisturbed restore's time nothing but the interpreter is at work."""
TRIES = 3
"""So many times the wanted kills are tried at most: one that comes too late met nothing."""
NOT_OURS = frozenset({"events", "endpoints", "endpointslices", "leases"})
"""What the cluster makes for itself, under names by chance."""
CLAIM_NAME, WORKLOAD = "data", "app"
STATEFUL_SET = Kind(group="apps", version="v1", resource="statefulsets", kind="StatefulSet", namespaced=True)
VOLUME = Kind(group="", version="v1", resource="persistentvolumes", kind="PersistentVolume", namespaced=False)
APPLICATION = f"""
import os, time
if not os.path.exists("/data/whole"):
    for number in range({FILES}):
        with open(f"/data/file-{{number}}", "wb") as file:
            file.write(os.urandom(3000 * (number % 40)))
    os.sync()
    open("/data/whole", "w").close()
    os.sync()
open("/tmp/ready", "w").close()
time.sleep(10**6)
"""
DIGEST = """
import hashlib, os
told = hashlib.sha256()
for name in sorted(name for name in os.listdir("/data") if name != "lost+found"):
    told.update(name.encode() + b"\\0" + hashlib.sha256(open(f"/data/{name}", "rb").read()).digest())
print(told.hexdigest())
"""

Objects = dict[tuple[str, str], "Manifest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is there after a restore."""

    objects: Objects
    """By kind and name."""
    digest: str
    """Of all files of the volume."""
    volumes: int


@dataclass(slots=True)
class Tally:
    """What the kills came to."""

    done: int = 0
    late: int = 0
    """The restore had ended already."""
    unfinished: int = 0
    """Killed restores that the bucket remembers as unfinished."""
    bad: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Scene:
    """An application in a namespace of its own, protected once, and lost and restored again and again."""

    cluster: Cluster
    name: str
    file: Path
    variables: dict[str, str]
    url: str

    def build(self) -> None:
        """Make the application, and back it up."""
        self.file.write_text(json.dumps(self._policy()))
        self._create(NAMESPACE, {"metadata": {"name": self.name}})
        owner: Manifest = {}
        for number in range(CONFIGURATIONS):
            owners = [{"apiVersion": "v1", "kind": "ConfigMap", "name": owner["name"], "uid": owner["uid"]}] if number % 3 else []
            metadata = {"name": f"configuration-{number:03d}", "namespace": self.name, "ownerReferences": owners}
            owner = self._create(CONFIG_MAP, {"metadata": metadata, "data": {"number": str(number)}})["metadata"]
        for number in range(SECRETS):
            self._create(SECRET, {"metadata": {"name": f"secret-{number}", "namespace": self.name}, "stringData": {"word": f"w{number}"}})
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
        self._create(CLAIM, {"metadata": {"name": CLAIM_NAME, "namespace": self.name}, "spec": claim})
        self._create(STATEFUL_SET, {"metadata": {"name": WORKLOAD, "namespace": self.name}, "spec": self._workload()})
        eventually(self.is_ready, f"the application in {self.name} is ready", seconds=READY_SECONDS)
        self.becalm("init", str(self.file))
        self.becalm("run", str(self.file))

    def _create(self, kind: Kind, manifest: dict[str, Any]) -> Manifest:
        return self.cluster.apply(kind, {"apiVersion": kind.api_version, "kind": kind.kind, **manifest}, verb=Verb.CREATE)

    def _policy(self) -> dict[str, Any]:
        spec = {"cluster": "kills", "select": {"namespaces": [self.name]}, "retention": {"last": 3}}
        target = {"url": self.url, "password": "env:BECALM_PASSWORD"}
        return {
            "apiVersion": "becalm.dev/v1",
            "kind": "ProtectionPolicy",
            "metadata": {"name": self.name},
            "spec": spec | {"target": target},
        }

    def _workload(self) -> dict[str, Any]:
        container = {
            "name": WORKLOAD,
            "image": self.variables["BECALM_MOVER_IMAGE"],
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-c", APPLICATION],
            "volumeMounts": [{"name": CLAIM_NAME, "mountPath": "/data"}],
            "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1},
        }
        volumes = [{"name": CLAIM_NAME, "persistentVolumeClaim": {"claimName": CLAIM_NAME}}]
        labels = {"app": WORKLOAD}
        pod = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0}
        template = {"metadata": {"labels": labels}, "spec": pod}
        return {"replicas": 1, "serviceName": WORKLOAD, "selector": {"matchLabels": labels}, "template": template}

    def is_ready(self) -> bool:
        """Say whether the application's pod is ready."""
        try:
            pod = self.cluster.get(POD, f"{WORKLOAD}-0", namespace=self.name)
        except NotFound:
            return False
        conditions = pod.get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def command(self) -> list[str]:
        """Return the command that is killed and run again."""
        return [sys.executable, "-m", "becalm.cli", "restore", str(self.file), "--yes", "--json"]

    def becalm(self, *arguments: str) -> Any:
        """Run the command line; demand success; return its document. Raises: RuntimeError."""
        command = [sys.executable, "-m", "becalm.cli", *arguments, "--json"]
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"becalm {arguments[0]}: exit {done.returncode}: {done.stderr[-600:]} {done.stdout[-600:]}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def lose(self) -> None:
        """Delete the namespace, and wait until it is gone with its volume."""
        self.cluster.delete(NAMESPACE, self.name)
        eventually(lambda: not self._is_there() and not self._volumes(), f"{self.name} is gone", seconds=READY_SECONDS)

    def _is_there(self) -> bool:
        try:
            self.cluster.get(NAMESPACE, self.name)
        except NotFound:
            return False
        return True

    def _volumes(self) -> int:
        claims = [item["spec"].get("claimRef") or {} for item in self.cluster.list(VOLUME)]
        return sum(claim.get("namespace") == self.name for claim in claims)

    def state(self) -> State:
        """Wait until the application is ready, and return what is there."""
        eventually(self.is_ready, f"the application in {self.name} is ready again", seconds=READY_SECONDS)
        kinds = [kind for kind in self.cluster.discover().kinds if kind.namespaced and kind.preferred and "list" in kind.verbs]
        objects = {
            (str(kind), item["metadata"]["name"]): item
            for kind in kinds
            if kind.resource not in NOT_OURS
            for item in self.cluster.list(kind, namespace=self.name)
        }
        told = self.cluster.exec(self.name, f"{WORKLOAD}-0", container=WORKLOAD, command=["python3", "-c", DIGEST], timeout_seconds=60)
        if told.exit_code != 0:
            raise RuntimeError(f"the files cannot be read: {told.stderr.decode()}")
        return State(objects=objects, digest=told.stdout.decode().strip(), volumes=self._volumes())

    def movers(self) -> list[str]:
        """Name the movers of this scene that are left."""
        pods = self.cluster.list(POD, namespace=self.variables["BECALM_NAMESPACE"], labels=LABEL_ROLE)
        return [pod["metadata"]["name"] for pod in [*pods, *self.cluster.list(POD, namespace=self.name, labels=LABEL_ROLE)]]

    def unfinished(self) -> int:
        """Return how many restores the bucket remembers as unfinished."""
        return sum(one["state"] == "running" for one in self.becalm("restores", str(self.file))["restores"])


def problems(wanted: State, found: State) -> Iterator[str]:
    """Say in what a state is not the one that is wanted."""
    missing, further = sorted(wanted.objects.keys() - found.objects.keys()), sorted(found.objects.keys() - wanted.objects.keys())
    if missing:
        yield f"{len(missing)} objects are missing: {missing[:3]}"
    if further:
        yield f"{len(further)} objects were not there before: {further[:3]}"
    uids = {item["metadata"]["uid"] for item in found.objects.values()}
    for name, item in found.objects.items():
        changes = compare(wanted.objects[name], item) if name in wanted.objects and not name[0].startswith("pods") else []
        if changes:
            yield f"{name} differs: {changes[0]}"
        if any(owner["uid"] not in uids for owner in item["metadata"].get("ownerReferences", [])):
            yield f"{name} is owned by what is not there"
    if found.digest != wanted.digest:
        yield "the files of the volume differ"
    if found.volumes != wanted.volumes:
        yield f"there are {found.volumes} volumes instead of {wanted.volumes}"


def kill_one(scene: Scene, wanted: State, seconds: float, tally: Tally) -> None:
    """Lose the application, kill its restore after so long, run it again, and judge."""
    scene.lose()
    before = scene.unfinished()
    at_work, left = killed(scene.command(), scene.variables, seconds)
    if not at_work:
        tally.late += 1
        return
    tally.done += 1
    tally.unfinished += scene.unfinished() - before
    bad = [f"left alive: {left}"] if left else []
    try:
        scene.becalm("restore", str(scene.file), "--yes")
        bad += problems(wanted, scene.state())
        again = scene.becalm("restore", str(scene.file), "--yes")["report"]
        changed = {what: again[what] for what in ("created", "linked", "merged", "replaced", "recreated") if again.get(what)}
        bad += [f"a further run was not without effect: {changed}"] if changed or again.get("volumes") else []
        eventually(lambda: not any(scene.name in name for name in scene.movers()), "no mover is left", seconds=READY_SECONDS)
    except (BecalmError, RuntimeError) as error:
        bad.append(str(error))
    tally.bad += [f"{scene.name}, killed after {seconds:.2f} s: {line}" for line in bad]
    print(f"{scene.name} {tally.done:4}  killed after {seconds:5.2f} s  {'BAD ' + '; '.join(bad[:3]) if bad else 'good'}", flush=True)


def kill_all(scene: Scene, kills: int, seed: str) -> Tally:
    """Learn from an undisturbed restore what is wanted and how long it takes; then kill so many."""
    tally, lot = Tally(), random.Random(seed)
    scene.build()
    digest = scene.state().digest
    scene.lose()
    began = time.monotonic()
    scene.becalm("restore", str(scene.file), "--yes")
    longest = time.monotonic() - began
    wanted = scene.state()
    if wanted.digest != digest:
        tally.bad.append(f"{scene.name}: the files of the undisturbed restore differ from those that were backed up")
    for _ in range(kills * TRIES):
        if tally.done < kills:
            kill_one(scene, wanted, lot.uniform(EARLIEST_SHARE * longest, longest), tally)
    if tally.done < kills:
        tally.bad.append(f"{scene.name}: only {tally.done} of {kills} kills met a restore at work")
    return tally


@contextmanager
def stage(number: int) -> Iterator[list[Scene]]:
    """Give so many scenes a bucket and a namespace of Becalm's own, and take them down."""
    own = f"becalm-restores-{uuid4().hex[:6]}"
    variables, url = environment(own), f"s3://{own}/prod"
    open_store(url, credentials(), create=True)
    cluster = connect(kubeconfig=variables["KUBECONFIG"])
    with tempfile.TemporaryDirectory(prefix="becalm-restores-") as folder:
        names = [f"{own}-{index}" for index in range(number)]
        try:
            yield [Scene(cluster=cluster, name=name, file=Path(folder) / f"{name}.yaml", variables=variables, url=url) for name in names]
        finally:
            for name in (*names, own):
                try:
                    cluster.delete(NAMESPACE, name)
                except BecalmError as error:
                    print(f"{name} stays: {error}", flush=True)
            remove_bucket(own)


def prove(kills: int, *, scenes: int = 2, seed: int = 0) -> Tally:
    """Kill so many restores in all."""
    shares = [kills // scenes + (index < kills % scenes) for index in range(scenes)]
    whole: Counter[str] = Counter()
    bad: list[str] = []
    with stage(scenes) as made, ThreadPoolExecutor(scenes) as pool:
        for tally in pool.map(lambda index: kill_all(made[index], shares[index], f"{seed} {index}"), range(scenes)):
            whole.update(done=tally.done, late=tally.late, unfinished=tally.unfinished)
            bad += tally.bad
    return Tally(done=whole["done"], late=whole["late"], unfinished=whole["unfinished"], bad=bad)


def absent() -> str:
    """Say what is missing; nothing where all is there."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    return f"not set: {', '.join(missing)}" if missing else ""


def main() -> int:
    """Kill, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if reason := absent():
        print(reason)
        return 1
    began = time.monotonic()
    tally = prove(given.kills, scenes=given.scenes, seed=given.seed)
    print(
        f"{tally.done} restores killed at work, {tally.unfinished} of them kept as unfinished, {tally.late} had ended already; "
        f"{len(tally.bad)} bad; {(time.monotonic() - began) / 60:.0f} minutes"
    )
    for line in tally.bad:
        print(f"BAD  {line}")
    return 1 if tally.bad or tally.done < given.kills else 0


if __name__ == "__main__":
    sys.exit(main())
