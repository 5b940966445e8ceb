"""A rebuild: all policies of a target into an empty cluster, in an order, resumable, with what was on the nodes and a runbook for the rest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from becalm.actions import rebuild, rebuild_nodes
from becalm.actions.handover import Ports, Settings
from becalm.actions.rebuild_outside import runbook
from becalm.actions.rebuild_steps import Part, Phase, RebuildPlan, RebuildReport
from becalm.cli.verbs import Verbs
from becalm.errors import ClusterUnavailable, NothingSelected, PermanentError
from becalm.kube.base import Kind
from becalm.storage import open_store
from becalm.storage.base import Folders
from becalm.testing.fake_clock import FakeClock
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.fake_mover import FakeMover
from becalm.testing.manifests import a_claim, a_definition, a_deployment, a_map, a_namespace, a_secret, a_storage_class, an_object
from becalm.testing.memory_store import MemoryStore
from becalm.testing.saved_points import CUT, PASSWORD, save_point

CAMPAIGN = Kind(group="shop.example.org", version="v1", resource="campaigns", kind="Campaign", namespaced=True)
WEBHOOK = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    resource="validatingwebhookconfigurations",
    kind="ValidatingWebhookConfiguration",
    namespaced=False,
)
KINDS = (*DEFAULT_KINDS, CAMPAIGN, WEBHOOK)


def a_node(name: str = "one", *, cpu: str = "4", labels: dict[str, str] | None = None, taints: list[dict[str, str]] | None = None) -> dict:
    described = {"kubernetes.io/hostname": name, **(labels or {})}
    status = {
        "capacity": {"cpu": cpu, "memory": "8Gi"},
        "nodeInfo": {"kubeletVersion": "v1.34.0", "osImage": "Debian", "containerRuntimeVersion": "containerd://2"},
    }
    spec = {"taints": taints} if taints else {}
    return an_object("v1", "Node", name, namespace=None, metadata={"labels": described}, spec=spec, status=status)


DEDICATED = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}
SHOP = (
    a_namespace(),
    a_map(level="1"),
    a_secret(key="YQ=="),
    a_claim(),
    a_deployment(),
    a_storage_class("fast", default=False),
    an_object("v1", "Service", "front", spec={"type": "LoadBalancer"}, status={"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}),
    an_object("shop.example.org/v1", "Campaign", "winter", spec={"discount": 3}),
)
PLATFORM = (
    a_namespace("platform"),
    a_map("operator", namespace="platform", on="yes"),
    a_definition(),
    an_object("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "guard", namespace=None, webhooks=[]),
)


@dataclass
class Scene:
    """Two policies under a target: the shop uses a custom resource whose definition the platform's point holds. And an empty cluster."""

    stores: dict[str, MemoryStore] = field(default_factory=lambda: {"shop": MemoryStore(), "platform": MemoryStore()})
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(kinds=[*DEFAULT_KINDS, WEBHOOK])
        self.cluster.put(a_storage_class(), a_node("one"), a_node("three"))
        self.cluster.on_write("customresourcedefinitions", self._serve)
        self.movers = {name: FakeMover(store) for name, store in self.stores.items()}
        nodes = [a_node("one", labels={"disk": "ssd"}, taints=[DEDICATED]), a_node("two", labels={"gpu": "yes"})]
        context = {
            "endpoints/nodes.json": orjson.dumps(nodes),
            "endpoints/discovery.json": orjson.dumps({"version": "v1.34.0", "kinds": [{"group": "shop.example.org"}]}),
        }
        save_point(self.stores["shop"], SHOP, kinds=KINDS, volumes={"shop/data": {"db/a": b"1234"}}, raw=context, policy="shop")
        said = {"policy": {"document": {"spec": {"environment": "test"}}}, "counts": {"volumes": 0, "bytes": 0}}
        raw = {"recovery-point.json": orjson.dumps(said)}
        save_point(self.stores["platform"], PLATFORM, kinds=KINDS, raw=raw, policy="platform", cut=CUT + timedelta(minutes=5))

    def _serve(self, _: dict[str, Any]) -> None:
        if CAMPAIGN not in self.cluster.kinds:
            self.cluster.kinds.append(CAMPAIGN)

    def ports_for(self, policy: str) -> Ports:
        """The outer world of one policy."""
        settings = Settings(cluster_name="", store_environment={"AWS_ACCESS_KEY_ID": "k"})
        store = self.stores.setdefault(policy, MemoryStore())
        movers = self.movers.get(policy)
        return Ports(cluster=self.cluster, store=store, password=PASSWORD, clock=self.clock, settings=settings, movers=movers)

    def prepare(self, **asked: Any) -> RebuildPlan:
        """Make a plan for all that stands under the target."""
        return rebuild.prepare(sorted(self.stores), self.ports_for, target="s3://backups/prod", **asked)

    def execute(self, **asked: Any) -> RebuildReport:
        """Carry a new plan out."""
        return rebuild.execute(self.prepare(), self.ports_for, **asked)

    def names(self, resource: str) -> set[str]:
        """The names of what is there."""
        return {one["metadata"]["name"] for one in self.cluster.all(resource)}


def test_everything_that_was_protected_is_there_again() -> None:
    """Custom resources too, though their definition comes from another policy's point; and the volume is filled."""
    scene = Scene()
    report = scene.execute()

    assert report.ok, report.wrong
    assert {"shop", "platform"} <= scene.names("namespaces")
    assert scene.names("campaigns") == {"winter"}
    assert scene.names("deployments") == {"web"}
    assert scene.names("validatingwebhookconfigurations") == {"guard"}
    assert len(scene.movers["shop"].started) == 1


def test_what_belongs_to_no_namespace_comes_first_and_what_guards_the_api_last() -> None:
    """Over all policies: no webhook stands while a policy's objects still come."""
    scene = Scene()
    scene.execute()
    made = [str(call.kind) for call in scene.cluster.calls if call.verb == "create"]

    assert made.index("customresourcedefinitions.apiextensions.k8s.io") < made.index("namespaces")
    assert made.index(str(WEBHOOK)) == len(made) - 1


def test_production_comes_before_test_and_whom_others_need_before_all() -> None:
    """The order is told by the plan."""
    scene = Scene()

    assert [part.policy for part in scene.prepare().parts] == ["shop", "platform"]
    assert [part.policy for part in scene.prepare(first=["platform"]).parts] == ["platform", "shop"]


def test_a_second_rebuild_changes_nothing() -> None:
    """It finds what the first made, and keeps it."""
    scene = Scene()
    scene.execute()
    before = {kind.resource: scene.cluster.all(kind.resource, kind.group) for kind in KINDS}
    again = scene.execute()

    assert again.ok
    assert {kind.resource: scene.cluster.all(kind.resource, kind.group) for kind in KINDS} == before


def test_a_rebuild_that_was_interrupted_goes_on() -> None:
    """The part that failed is named, the others are done; the same command finishes it."""
    scene = Scene()
    scene.cluster.fail(ClusterUnavailable("no answer"), verb="create", kind="secrets", name="tls", times=1)
    first = scene.execute()
    second = scene.execute()

    assert [(part.policy, part.phase) for part in first.parts if part.failures] == [("shop", Phase.APPLICATIONS)]
    assert "platform" in scene.names("namespaces")
    assert second.ok, second.wrong
    assert scene.names("secrets") >= {"tls"}
    with pytest.raises(PermanentError, match="no answer"):
        rebuild.demand(first)


def test_a_policy_that_cannot_be_opened_stops_no_other_and_is_a_failure() -> None:
    """Its password is another one: the rebuild is not whole, and says why."""
    scene = Scene()
    scene.stores["locked"] = MemoryStore()
    save_point(scene.stores["locked"], PLATFORM, kinds=KINDS, policy="locked")
    right = scene.ports_for

    def ports_for(policy: str) -> Ports:
        return replace(right(policy), password="another" if policy == "locked" else PASSWORD)

    plan = rebuild.prepare(sorted(scene.stores), ports_for, target="s3://b")
    report = rebuild.execute(plan, ports_for)

    assert [part.policy for part in plan.parts] == ["shop", "platform"]
    assert [one.where for one in report.wrong] == ["policy locked"]


def test_folders_that_hold_no_repository_are_passed_over() -> None:
    """A target may hold other things; one that holds nothing else is refused."""
    scene = Scene()
    scene.stores["notes"] = MemoryStore()
    assert [part.policy for part in scene.prepare().parts] == ["shop", "platform"]
    scene.stores = {"notes": MemoryStore()}

    with pytest.raises(NothingSelected, match="nothing to rebuild"):
        scene.prepare()


def test_a_plan_writes_nothing() -> None:
    """Neither into the cluster nor into a bucket."""
    scene = Scene()
    before = {name: len(list(store.list(""))) for name, store in scene.stores.items()}
    scene.prepare()

    assert {call.verb for call in scene.cluster.calls} <= {"get", "list", "discover"}
    assert {name: len(list(store.list(""))) for name, store in scene.stores.items()} == before


def test_what_was_on_the_nodes_is_told_and_put_back_only_on_request() -> None:
    """By name: labels and taints that people had put there. What the kubelet writes is its own business."""
    scene = Scene()
    plan = scene.prepare()
    scene.execute()
    untouched = next(one for one in scene.cluster.all("nodes") if one["metadata"]["name"] == "one")
    report = scene.execute(nodes=True)
    node = next(one for one in scene.cluster.all("nodes") if one["metadata"]["name"] == "one")

    assert [str(change) for change in plan.nodes] == ["nodes/one: label disk=ssd, taint dedicated=db:NoSchedule"]
    assert [one.where for one in plan.findings] == ["nodes/two"]
    assert "gpu=yes" in plan.findings[0].message
    assert "disk" not in untouched["metadata"]["labels"]
    assert report.nodes == 1
    assert (node["metadata"]["labels"]["disk"], node["spec"]["taints"]) == ("ssd", [DEDICATED])


def test_a_label_that_says_something_else_now_stays() -> None:
    """And so does a taint of that key and effect."""
    saved = rebuild_nodes.facts(a_node(labels={"disk": "ssd"}, taints=[DEDICATED]))
    live = rebuild_nodes.facts(a_node(labels={"disk": "nvme"}, taints=[{**DEDICATED, "value": "cache"}]))

    assert rebuild_nodes.changes([saved], [live]) == ()


def test_a_smaller_cluster_is_told() -> None:
    """Pods may find no place."""
    found = list(rebuild_nodes.findings([rebuild_nodes.facts(a_node(cpu="4"))], [rebuild_nodes.facts(a_node(cpu="1500m"))]))

    assert [one.message for one in found] == ["there is less cpu than before: 1.5 of 4 cores"]


def test_a_workload_that_does_not_become_ready_is_a_failure() -> None:
    """Where a person asked to wait: nobody runs the Deployment here."""
    report = Scene().execute(wait_seconds=5)

    assert [one.where for one in report.unready] == ["deployments.apps/shop/web"]
    assert not report.ok


def test_the_runbook_holds_the_facts_and_no_markup_of_the_point() -> None:
    """Nodes with what was on them, drivers to install, addresses that change; text of a recovery point stays text."""
    scene = Scene()
    plan = scene.prepare()
    hostile = Part(policy="x", point="0" * 64, cut=CUT, outside=("name: a|b<script> answers\n# evil",))
    text = runbook(replace(plan, parts=(*plan.parts, hostile)))

    assert "| one | v1.34.0 | Debian | containerd://2 | 4 | 8Gi | disk=ssd | dedicated=db:NoSchedule |" in text
    assert "storage driver disk.example.org" in text
    assert "203.0.113.7" in text
    assert "<script>" not in text
    assert "\n# evil" not in text


def test_a_folder_tells_which_policies_it_holds(tmp_path: Path) -> None:
    """One name for each, whatever else stands there, and without going through their packs."""
    store = open_store(f"file://{tmp_path}", {})
    for key in ("shop/config", "shop/data/00/aa", "platform/config", "notes.txt"):
        store.put(key, b"x")

    assert isinstance(store, Folders)
    assert list(store.folders()) == ["platform", "shop"]


def test_the_command_is_there() -> None:
    """With its help."""
    assert Verbs(name="becalm").get_command(None, "rebuild").help.startswith("Rebuild an empty cluster")
