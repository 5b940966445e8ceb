"""A restore of objects killed at every call, reading ones too, before or after it had its effect, and run again: the end is the same.

The objects go into their own namespace or beside a live application under another name; they own each other across waves, and one of them
is of a kind that the point itself defines. What is compared is what `becalm diff` compares, and the number of objects.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

import pytest

from becalm.actions import restore
from becalm.actions.diff import compare
from becalm.actions.diff_sides import LiveSide, PointSide
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import RestoreRequest
from becalm.catalog.points import points
from becalm.errors import ClusterUnavailable
from becalm.kube.base import Kind
from becalm.model import Manifest
from becalm.repository.reader import open_repository
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.fake_mover import FakeMover
from becalm.testing.manifests import a_definition, a_deployment, a_map, a_namespace, a_secret, a_storage_class, an_object
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import PASSWORD, save_point

CAMPAIGN = Kind(group="shop.example.org", version="v1", resource="campaigns", kind="Campaign", namespaced=True)
KINDS = (*DEFAULT_KINDS, CAMPAIGN)


class Killed(BaseException):
    """The process ends here: nothing catches it."""


def application() -> tuple[Manifest, ...]:
    """Objects of several waves: a map owned by a map, a Secret owned by what comes later, a resource of a kind of their own."""
    owner, campaign = a_map("owner"), an_object("shop.example.org/v1", "Campaign", "spring", spec={"discount": 3})
    late = a_secret("late", key="YQ==")
    late["metadata"]["ownerReferences"] = a_map("x", owners=(a_deployment(), campaign))["metadata"]["ownerReferences"]
    return (a_namespace(), a_definition(), owner, a_map("owned", owners=(owner,)), late, a_deployment(), campaign)


@dataclass
class Scene:
    """A recovery point in a bucket, and a cluster to restore into."""

    mapping: dict[str, str] = field(default_factory=dict)
    store: MemoryStore = field(default_factory=MemoryStore)
    cluster: FakeCluster = field(default_factory=lambda: FakeCluster(kinds=list(KINDS)))

    def __post_init__(self) -> None:
        self.point = save_point(self.store, application(), kinds=KINDS).id
        self.cluster.put(a_storage_class(), *(application() if self.mapping else ()))
        self.before = len(self.everything())
        settings = Settings(cluster_name="test")
        movers = FakeMover(self.store)
        self.ports = Ports(cluster=self.cluster, store=self.store, password=PASSWORD, clock=FakeClock(), settings=settings, movers=movers)
        self.request = RestoreRequest(policy="shop", namespace_mapping=self.mapping)

    def everything(self) -> list[tuple[str, str, str]]:
        """What stands in the cluster, each by its place."""
        return [
            (str(kind), item["metadata"].get("namespace", ""), item["metadata"]["name"])
            for kind in KINDS
            for item in self.cluster.all(kind.resource, kind.group)
        ]

    def restore(self, ports: Ports | None = None) -> restore.RestoreReport:
        """Plan and carry out."""
        ports = ports or self.ports
        return restore.execute(restore.prepare(self.request, ports), self.request, ports)

    def differences(self) -> list[str]:
        """What `becalm diff` says."""
        repository = open_repository(self.store, PASSWORD)
        side = PointSide.open(repository, next(iter(points(repository, "shop"))), mapping=self.mapping)
        return [f"{one.change} {one.ref}" for one in compare(side, LiveSide(cluster=self.cluster, like=side)).differences]

    def dangling(self) -> list[str]:
        """Objects that name an owner which is not there."""
        found = [item for kind in KINDS for item in self.cluster.all(kind.resource, kind.group)]
        uids = {item["metadata"]["uid"] for item in found}
        return [item["metadata"]["name"] for item in found for one in item["metadata"].get("ownerReferences", ()) if one["uid"] not in uids]


class Dying:
    """A cluster at whose n-th call the process ends, before or after the call had its effect; no later call gets through."""

    CALLS = frozenset({"discover", "list", "get", "apply", "delete"})

    def __init__(self, cluster: FakeCluster, number: int, fault: BaseException, *, after: bool) -> None:
        self._cluster, self._number, self._fault, self._after = cluster, number, fault, after
        self._lock, self.count = threading.Lock(), 0

    def __getattr__(self, name: str) -> object:
        found = getattr(self._cluster, name)
        return (lambda *given, **more: self._call(found, *given, **more)) if name in self.CALLS else found

    def _call(self, method: object, *given: object, **more: object) -> object:
        with self._lock:
            mine, self.count = self.count, self.count + 1
        if mine > self._number or (mine == self._number and not self._after):
            raise self._fault
        answer = method(*given, **more)
        if mine == self._number:
            raise self._fault
        return answer


@pytest.mark.parametrize("mapping", [{}, {"shop": "shop2"}], ids=["in its place", "beside the live one"])
@pytest.mark.parametrize("fault", [Killed("killed"), ClusterUnavailable("away")], ids=["killed", "away"])
@pytest.mark.parametrize("after", [False, True], ids=["lost before", "lost after"])
def test_killed_at_any_call_and_run_again_it_ends_as_if_uninterrupted(
    mapping: dict[str, str], fault: BaseException, *, after: bool
) -> None:
    """Nothing differs, nothing is there twice, no owner dangles, and a third run has nothing to do."""
    calm = Scene(mapping)
    counting = Dying(calm.cluster, 1 << 30, fault, after=after)
    assert calm.restore(replace(calm.ports, cluster=counting)).ok
    assert (calm.differences(), calm.dangling()) == ([], [])
    expected = calm.everything()

    for number in range(counting.count):
        scene = Scene(mapping)
        with pytest.raises(type(fault)):
            scene.restore(replace(scene.ports, cluster=Dying(scene.cluster, number, fault, after=after)))
        again = scene.restore()

        assert again.ok, (number, again.failures)
        assert scene.everything() == expected, number
        assert (scene.differences(), scene.dangling()) == ([], []), number
        assert restore.prepare(scene.request, scene.ports).changes_nothing


def test_the_enumeration_reaches_reading_and_writing_calls() -> None:
    """It would be worth nothing if it met only a few."""
    scene = Scene()
    counting = Dying(scene.cluster, 1 << 30, Killed(), after=False)
    scene.restore(replace(scene.ports, cluster=counting))
    written = len(scene.everything()) - scene.before

    assert written == len(application())
    assert counting.count > 2 * written
