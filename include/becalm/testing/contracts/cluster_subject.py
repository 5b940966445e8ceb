"""The cluster under a contract test, what it offers, and the small objects that the tests make in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from becalm.clock import Clock, Deadline, SystemClock
from becalm.errors import NotFound
from becalm.kube.base import Verb
from becalm.kube.kinds import CLAIM, CONFIG_MAP, NAMESPACE, POD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from becalm.kube.base import Cluster, Kind
    from becalm.model import Manifest

T = TypeVar("T")

STAY = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
"""A shell's way of running until it is told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A cluster under test and what it offers."""

    cluster: Cluster
    gone_revision: Callable[[], str]
    """Make a revision that the cluster no longer knows, and return it."""
    storage_faults: Callable[[Mapping[str, Any]], None]
    """Ask the storage for trouble; nothing ends it."""
    forgets_watches: bool = True
    """Whether a watch from the gone revision is refused too; a young API server keeps in memory what it deleted from its store."""
    image: str = "becalm.dev/busybox:1"
    storage_class: str = "standard"
    """A class that waits for the first consumer."""
    immediate_class: str = "immediate"
    snapshot_class: str = "standard"
    clock: Clock = field(default_factory=SystemClock)

    def new_namespace(self) -> str:
        """Make a namespace and return its name."""
        made = self.cluster.apply(NAMESPACE, {"metadata": {"generateName": "kube-contract-"}}, verb=Verb.CREATE)
        return str(made["metadata"]["name"])

    def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Create an object."""
        return self.cluster.apply(kind, manifest, verb=Verb.CREATE)

    def config_map(self, namespace: str, name: str, *, labels: Mapping[str, str] | None = None, **data: str) -> Manifest:
        """Create a ConfigMap."""
        return self.create(CONFIG_MAP, {"metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})}, "data": data})

    def pod(self, namespace: str, name: str, script: str = STAY, *, claim: str = "", **spec: Any) -> Manifest:
        """Create a pod of one container `main` that runs a script; a claim is mounted at /data."""
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
        container: Manifest = {
            "name": "main",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "data", "mountPath": "/data"}] if claim else [],
        }
        base = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container], "volumes": volumes}
        return self.create(POD, {"metadata": {"name": name, "namespace": namespace}, "spec": {**base, **spec}})

    def claim(self, namespace: str, name: str, *, storage_class: str = "", size: str = "32Mi") -> Manifest:
        """Create a claim."""
        spec = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            "storageClassName": storage_class or self.storage_class,
        }
        return self.create(CLAIM, {"metadata": {"name": name, "namespace": namespace}, "spec": spec})

    def running(self, namespace: str, name: str) -> Manifest:
        """Wait until a pod runs."""
        return self.in_phase(namespace, name, "Running")

    def in_phase(self, namespace: str, name: str, *phases: str) -> Manifest:
        """Wait until a pod is in one of these phases."""

        def look() -> Manifest | None:
            pod = self.cluster.get(POD, name, namespace=namespace)
            return pod if (pod.get("status") or {}).get("phase") in phases else None

        return self.eventually(look)

    def shell(self, namespace: str, pod: str, script: str) -> bytes:
        """Run a script in a pod's container `main` and return what it printed."""
        result = self.cluster.exec(namespace, pod, container="main", command=["sh", "-c", script], timeout_seconds=30)
        assert result.exit_code == 0, result
        return result.stdout

    def is_gone(self, kind: Kind, name: str, namespace: str | None = None) -> bool:
        """Say whether an object is not there."""
        try:
            self.cluster.get(kind, name, namespace=namespace)
        except NotFound:
            return True
        return False

    def eventually(self, look: Callable[[], T | None], *, seconds: float = 60) -> T:
        """Look again and again until there is something to see."""
        deadline = Deadline(self.clock, seconds)
        while True:
            seen = look()
            if seen:
                return seen
            if deadline.passed():
                raise AssertionError(f"did not happen within {seconds:g} s; last seen: {seen!r}")
            self.clock.sleep(0.1)
