"""Many small objects in a real cluster: 60 kinds in 200 namespaces, made once and kept between measurements by a label.

Most kinds are custom resources, as in a cluster full of operators. Every object is made by an ordinary request to the API server.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from becalm.clock import SystemClock
from becalm.errors import AlreadyExists
from becalm.kube.base import Kind, Verb
from becalm.kube.kinds import CONFIG_MAP, CRD, NAMESPACE, SECRET
from becalm.kube.wrappers import RetryingCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.kube.base import Cluster

GROUP = "objects.bench.becalm.dev"
LABEL = "bench.becalm.dev/objects"
PREFIX = "becalm-objects-"
ROLE = Kind(group="rbac.authorization.k8s.io", version="v1", resource="roles", kind="Role", namespaced=True)
MAKERS = 24

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """How many objects, of how many kinds, in how many namespaces."""

    objects: int
    kinds: int = 60
    namespaces: int = 200

    @property
    def names(self) -> list[str]:
        """The namespaces."""
        return [f"{PREFIX}{number:03d}" for number in range(self.namespaces)]

    @property
    def served(self) -> list[Kind]:
        """The kinds: three that every cluster has, and custom ones."""
        return [CONFIG_MAP, SECRET, ROLE, *(custom(number) for number in range(self.kinds - 3))]


def custom(number: int) -> Kind:
    """Return one of the custom kinds."""
    return Kind(group=GROUP, version="v1", resource=f"things{number:02d}", kind=f"Thing{number:02d}", namespaced=True)


def make(cluster: Cluster, field: Field) -> float:
    """Make what is not there yet; return the seconds it took."""
    began = time.monotonic()
    cluster = RetryingCluster(cluster, SystemClock(), attempts=8)  # a kind that was just defined is not served at once
    with ThreadPoolExecutor(max_workers=MAKERS, thread_name_prefix="make") as pool:
        list(pool.map(lambda name: _create(cluster, NAMESPACE, _namespace(name)), field.names))
        list(pool.map(lambda kind: _create(cluster, CRD, _definition(kind)), [kind for kind in field.served if kind.group == GROUP]))
        _wait_until_served(cluster, field)
        there = dict(zip(field.served, pool.map(lambda kind: count(cluster, kind), field.served), strict=True))
        places = _places(field, there)
        for _ in iter(lambda: list(pool.map(lambda place: _create(cluster, *place), itertools.islice(places, 4096))), []):
            pass
    return time.monotonic() - began


def everything(field: Field) -> Iterator[tuple[Kind, Manifest]]:
    """Yield every object, with its kind."""
    return _places(field, dict.fromkeys(field.served, 0))


def prepare(cluster: Cluster, field: Field) -> None:
    """Make the namespaces and the definitions, and nothing in them; return when the kinds are served."""
    cluster = RetryingCluster(cluster, SystemClock(), attempts=8)
    for name in field.names:
        _create(cluster, NAMESPACE, _namespace(name))
    for kind in (kind for kind in field.served if kind.group == GROUP):
        _create(cluster, CRD, _definition(kind))
    _wait_until_served(cluster, field)


def count(cluster: Cluster, kind: Kind) -> int:
    """Return how many objects of ours a kind has."""
    return sum(1 for _ in cluster.list(kind, labels=LABEL))


def remove(cluster: Cluster, field: Field) -> None:
    """Remove the definitions with all that is of them, and the namespaces."""
    with ThreadPoolExecutor(max_workers=MAKERS, thread_name_prefix="remove") as pool:
        list(pool.map(lambda kind: cluster.delete(CRD, f"{kind.resource}.{GROUP}"), [kind for kind in field.served if kind.group == GROUP]))
        while any(item["metadata"]["name"].endswith(f".{GROUP}") for item in cluster.list(CRD)):
            time.sleep(1)
        list(pool.map(lambda name: cluster.delete(NAMESPACE, name), field.names))
        while any(item["metadata"]["name"].startswith(PREFIX) for item in cluster.list(NAMESPACE)):
            time.sleep(1)


def _places(field: Field, there: dict[Kind, int]) -> Iterator[tuple[Kind, Manifest]]:
    """Yield every object that a kind has not got: a kind is filled in the order of the numbers, or not at all."""
    per_kind = [len(range(number, field.objects, field.kinds)) for number in range(field.kinds)]
    for kind, wanted in zip(field.served, per_kind, strict=True):
        if there[kind] < wanted:
            for number in range(wanted):
                yield kind, _object(kind, field.names[number % field.namespaces], number)


def _create(cluster: Cluster, kind: Kind, manifest: Manifest) -> None:
    try:
        cluster.apply(kind, manifest, verb=Verb.CREATE)
    except AlreadyExists:
        return


def _wait_until_served(cluster: Cluster, field: Field) -> None:
    wanted = {(kind.group, kind.resource) for kind in field.served}
    while not wanted <= {(kind.group, kind.resource) for kind in cluster.discover().kinds}:
        time.sleep(0.5)


def _namespace(name: str) -> Manifest:
    return {"metadata": {"name": name, "labels": {LABEL: "namespace"}}}


def _definition(kind: Kind) -> Manifest:
    schema = {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}
    version = {"name": kind.version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": kind.resource, "singular": kind.kind.lower(), "kind": kind.kind, "listKind": f"{kind.kind}List"}
    return {
        "metadata": {"name": f"{kind.resource}.{kind.group}", "labels": {LABEL: "definition"}},
        "spec": {"group": kind.group, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _object(kind: Kind, namespace: str, number: int) -> Manifest:
    """Return one object: words that come again in all of them, and some that are its own."""
    name = f"{kind.resource[:12]}-{number:05d}"
    own = hashlib.sha256(f"{kind} {number}".encode()).hexdigest()
    words = {f"setting-{place:02d}": f"{own[place : place + 12]}.example.internal:{8000 + place}" for place in range(10)}
    labels = {LABEL: "thing", "app.kubernetes.io/name": name, "app.kubernetes.io/part-of": namespace}
    manifest: Manifest = {"metadata": {"name": name, "namespace": namespace, "labels": labels}}
    if kind == CONFIG_MAP:
        return {**manifest, "data": words}
    if kind == SECRET:
        return {**manifest, "stringData": words}
    if kind == ROLE:
        return {
            **manifest,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [*words], "verbs": ["get", "list"]}],
        }
    return {**manifest, "spec": {"replicas": 3, "selector": labels, "settings": words, "image": f"registry.example.internal/things@{own}"}}
