"""A run in memory for the tests of the verbs around it: a cluster, a store and a clock that stand still, and points at hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from becalm.actions import run
from becalm.actions.handover import Application, Begun, Cut, Discovered, Exported, Ports, Settings, Thawed, Trigger, VolumeCut, VolumePlan
from becalm.catalog.points import tags_of
from becalm.kube.base import owned_by
from becalm.model import Consistency, Finding, Manifest, MoverResult, MoverSpec, RecoveryPoint, VolumeRef, VolumeUse, payload
from becalm.policy.spec import ProtectionPolicy
from becalm.repository.format import SnapshotDoc
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import save_snapshot, snapshot_ids
from becalm.repository.tree import TreeBuilder
from becalm.repository.writer import Writer
from becalm.testing.builders import a_policy
from becalm.testing.fake_clock import NOON, FakeClock
from becalm.testing.fake_cluster import FakeCluster
from becalm.testing.fake_mover import FakeMover
from becalm.testing.memory_store import MemoryStore
from becalm.testing.objects import a_namespace, an_object
from becalm.testing.saved_points import CHEAP, PASSWORD

DATA = VolumeRef(namespace="shop", claim="data")
MORE = VolumeRef(namespace="shop", claim="more")


@dataclass
class Scene:
    """Everything that a run needs, and a repository without points."""

    clock: FakeClock = field(default_factory=FakeClock)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    policy: ProtectionPolicy = field(default_factory=a_policy)
    changes: dict[str, Any] = field(default_factory=dict)
    """Other ports than the scene's own."""

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=self.clock)
        self.cluster.put(a_namespace("shop"), a_namespace("becalm"))
        self.repository = init_repository(self.store, PASSWORD, kdf=CHEAP)
        self.movers = FakeMover(self.store, answer=self.moved)

    @property
    def ports(self) -> Ports:
        """The ports, with the scene's changes."""
        base: dict[str, Any] = {
            "cluster": self.cluster,
            "store": self.store,
            "password": PASSWORD,
            "clock": self.clock,
            "settings": Settings(cluster_name="test"),
            "movers": self.movers,
        }
        return Ports(**(base | self.changes))

    def begin(self, run_id: str = "a run", trigger: Trigger = Trigger.MANUAL, **rest: Any) -> Begun:
        """Begin a run."""
        return run.begin(self.policy, run_id=run_id, trigger=trigger, ports=self.ports, **{"run_after": NOON, **rest})

    def finish(self, begun: Begun, **rest: Any) -> Any:
        """Finish a run."""
        return run.finish(begun, policy=self.policy, ports=self.ports, **{"committed": None, **rest})

    def tree(self, **files: bytes) -> str:
        """Write a tree of files and return its id."""
        with Writer(open_repository(self.store, PASSWORD)) as writer:
            builder = TreeBuilder(mtime=NOON)
            for name, content in files.items():
                builder.add_bytes(name.replace("__", "/"), content)
            written = builder.write(writer)
            writer.flush()
        return written

    def point(
        self, *, cut: datetime = NOON, slot: datetime | None = None, complete: bool = True, run_key: str = "other", says: Any = None
    ) -> str:
        """Write a recovery point and return its id. `says` is what stands in it about itself, if that is not the same."""
        missing = [] if complete else [payload(Finding(where="volumes/shop/data", message="not cut"))]
        document = says if says is not None else {"complete": complete, "missing": missing}
        builder = TreeBuilder(mtime=cut)
        builder.add_bytes("recovery-point.json", document if isinstance(document, bytes) else orjson.dumps(document))
        repository = open_repository(self.store, PASSWORD)
        with Writer(repository) as writer:
            tree = builder.write(writer)
            writer.flush()
        point = RecoveryPoint(id="", policy=self.policy.name, cut=cut, tree=tree, run=run_key, slot=slot, complete=complete)
        return save_snapshot(repository, SnapshotDoc(time=cut, tree=tree, hostname="test", username="becalm", tags=tags_of(point)))

    def points(self) -> list[str]:
        """Return what is visible."""
        return snapshot_ids(open_repository(self.store, PASSWORD))

    def leave(self, run_key: str, *, role: str = "cut", policy: str = "shop") -> Manifest:
        """Leave a snapshot of some run in the application's namespace."""
        api = "snapshot.storage.k8s.io/v1"
        left = an_object(
            api,
            "VolumeSnapshot",
            f"left-{run_key}-{role}",
            "shop",
            labels=owned_by(policy, run_key, role, repository=self.store.url),
            spec={"source": {}},
        )
        return self.cluster.put(left)

    def left(self) -> list[str]:
        """Return the snapshots that stand in the cluster."""
        return [item["metadata"]["name"] for item in self.cluster.all("volumesnapshots")]

    def moved(self, spec: MoverSpec) -> MoverResult | None:
        """Answer as a mover that has written one file."""
        tree = self.tree(file=str(spec.volume).encode())
        return MoverResult(name=spec.name, run=spec.run, volume=spec.volume, tree=tree, files=1, bytes_total=9, bytes_added=9)


def a_cut(scene: Scene, name: str = "shop", *volumes: VolumeRef, objects: int = 1, errors: tuple[VolumeRef, ...] = (), **rest: Any) -> Cut:
    """Return an application at one instant, its objects in the repository."""
    tree = scene.tree(**{f"resources__core__configmaps__{name}__settings.json": b"{}"}) if objects else ""
    cuts = [VolumeCut(plan=VolumePlan(volume=item, use=VolumeUse.SNAPSHOT), handle="h", created=NOON) for item in volumes]
    cuts += [VolumeCut(plan=VolumePlan(volume=item, use=VolumeUse.SNAPSHOT), error="the storage refused") for item in errors]
    facts = {"began": NOON, "ended": NOON, "revision": "7", "resources_tree": tree, "objects": objects}
    return Cut(application=name, volumes=tuple(cuts), **(facts | rest))


def a_thaw(name: str = "shop", consistency: Consistency = Consistency.APPLICATION, **rest: Any) -> Thawed:
    """Return a confirmed thaw."""
    return Thawed(application=name, consistency=consistency, **rest)


def an_export(volume: VolumeRef = DATA, **rest: Any) -> Exported:
    """Return a cut that can be read."""
    return Exported(volume=volume, use=VolumeUse.SNAPSHOT, **{"namespace": "becalm", "claim": f"export-{volume.claim}", **rest})


def discovered(*names: str, **rest: Any) -> Discovered:
    """Return a selection of applications by name."""
    return Discovered(applications=tuple(Application(name=name, namespaces=(name,)) for name in names or ("shop",)), **rest)
