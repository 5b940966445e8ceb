"""A recovery point in a bucket and a cluster in memory to restore it into: where restores are tested."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.actions import restore
from becalm.actions.handover import Ports, Settings
from becalm.actions.restore import RestoreRequest
from becalm.kube.base import Kind
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.fake_mover import FakeMover
from becalm.testing.manifests import a_storage_class
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import PASSWORD, SavedPoint, save_point

if TYPE_CHECKING:
    from becalm.actions.restore import RestorePlan, RestoreReport
    from becalm.model import Manifest

CAMPAIGN = Kind(group="shop.example.org", version="v1", resource="campaigns", kind="Campaign", namespaced=True)
WRITING = {"create", "update", "merge", "apply", "force-apply", "delete"}


@dataclass
class Scene:
    """A recovery point in a bucket, and a cluster to restore into."""

    objects: tuple[Manifest, ...]
    volumes: dict[str, dict[str, bytes]] = field(default_factory=dict)
    raw: dict[str, bytes] = field(default_factory=dict)
    there: tuple[Manifest, ...] = ()
    kinds: tuple[Kind, ...] = DEFAULT_KINDS
    saved_kinds: tuple[Kind, ...] = ()
    """Kinds of the point beside the usual ones."""
    request: RestoreRequest = field(default_factory=lambda: RestoreRequest(policy="shop"))
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(kinds=list(self.kinds))
        self.cluster.put(a_storage_class(), *self.there)
        self.cluster.on_write("namespaces", self._default_account)
        self.movers = FakeMover(self.store)
        self.point: SavedPoint = save_point(
            self.store, self.objects, kinds=(*DEFAULT_KINDS, CAMPAIGN, *self.saved_kinds), volumes=self.volumes, raw=self.raw
        )

    def _default_account(self, namespace: Manifest) -> None:
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace["metadata"]["name"]},
        }
        self.cluster.put(account)

    @property
    def ports(self) -> Ports:
        """The outer world."""
        settings = Settings(cluster_name="test", store_environment={"AWS_ACCESS_KEY_ID": "k"})
        return Ports(cluster=self.cluster, store=self.store, password=PASSWORD, clock=self.clock, settings=settings, movers=self.movers)

    def prepare(self) -> RestorePlan:
        """Make a plan."""
        return restore.prepare(self.request, self.ports)

    def execute(self, plan: RestorePlan | None = None) -> RestoreReport:
        """Carry out a plan, or make one first."""
        return restore.execute(plan or self.prepare(), self.request, self.ports)

    def writes(self) -> list[tuple[str, str, str]]:
        """Every call that changed something: verb, kind and name."""
        return [(call.verb, call.kind, call.name) for call in self.cluster.calls if call.verb in WRITING]

    def live(self, resource: str, name: str) -> Manifest:
        """One object of the cluster."""
        return next(item for item in self.cluster.all(resource) if item["metadata"]["name"] == name)
