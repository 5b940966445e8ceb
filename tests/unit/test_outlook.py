"""`becalm plan`: what a run would do is told whole, and nothing is touched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.run_scenes import DATA, Scene, a_cut, a_thaw, an_export, discovered

from becalm.actions import commit, discover, outlook
from becalm.actions.handover import Settings
from becalm.cli.plan import document, verdict
from becalm.errors import AccessDenied, NothingSelected, StoreUnavailable
from becalm.model import MoverResult
from becalm.policy.environments import BUILT_IN, Limits
from becalm.policy.spec import Environment
from becalm.storage.wrappers import Counting
from becalm.testing.builders import a_policy
from becalm.testing.fake_groups import FakeGroups, a_group_class
from becalm.testing.memory_store import MemoryStore
from becalm.testing.objects import a_claim, a_config_map, a_namespace, a_pod, a_snapshot_class, a_storage_class, a_volume

HOOK = {"select": {"labels": "app=db"}, "command": {"freeze": ["stop"], "thaw": ["go"]}}
WRITES = ("create", "update", "merge", "apply", "force-apply", "delete", "exec")


@pytest.fixture
def scene() -> Scene:
    """A namespace with a database that has a hook, and volumes of every sort."""
    made = Scene(policy=a_policy(quiesce={"hooks": [HOOK]}, environment="test", volumes={"rules": RULES}))
    made.cluster.put(a_storage_class(), a_snapshot_class(), a_pod("db-0", labels={"app": "db"}, mounts={"main": "data"}, node="node-1"))
    for claim in (a_claim("data", size="10Gi"), a_claim("logs"), a_claim("cache"), a_claim("new", bound=False)):
        made.cluster.put(claim, *([a_volume(claim)] if "volumeName" in claim["spec"] else []))
    return made


RULES = [
    {"match": {"claim": "cache"}, "use": "skip", "because": "rebuilt at start"},
    {"match": {"claim": "logs"}, "use": "live"},
]


def look(scene: Scene, limits: Limits | None = None) -> outlook.Outlook:
    return outlook.execute(scene.policy, scene.ports, limits=limits or BUILT_IN.limits(scene.policy.spec.environment))


def told(scene: Scene, **rest: Any) -> str:
    return "\n".join(outlook.sentences(look(scene, **rest)))


def test_it_says_what_will_be_captured_how_and_by_which_rule(scene: Scene) -> None:
    """Every volume, every hook with the containers where it would run, and what is left out with its reason."""
    said = told(scene)

    assert "application shop: namespaces shop" in said
    assert "volume shop/data: cut by itself by the snapshot class standard, by volumes.default, 10.0 GiB claimed" in said
    assert "volume shop/logs: read live, while it changes, by volumes.rules.1" in said
    assert "hook spec.quiesce.hooks.0 (policy): would run in shop/db-0 (main), at most 30 s" in said
    assert "left out: volumes/shop/cache, by volumes.rules.0: rebuilt at start" in said
    assert "left out: volumes/shop/new, by unbound: the claim has no volume yet, so it has no data" in said
    assert verdict(look(scene)) == 0


def test_nothing_is_touched(scene: Scene) -> None:
    """No write to the cluster, no command in a container, no write to the bucket."""
    store = Counting(scene.store)
    scene.changes = {"store": store}
    told(scene)

    assert [call for verb in WRITES for call in scene.cluster.recorded(verb)] == []
    assert {verb: store.calls[verb] for verb in ("put", "delete", "retain")} == {"put": 0, "delete": 0, "retain": 0}


def test_volumes_that_would_be_cut_together_are_told_so(scene: Scene) -> None:
    """And why others are not."""
    scene.policy = a_policy(environment="test")
    FakeGroups(scene.cluster, scene.clock)
    scene.cluster.put(a_group_class())
    apart = told(scene)
    scene.cluster.remove("persistentvolumeclaims", "new", "shop")
    together = told(scene)

    assert "are cut one by one, side by side: their common labels also mean the claim new" in apart
    assert "volume shop/data: cut together with 2 more by the group class together" in together
    assert "no hook stills it: its volumes will be as after a crash" in together


def test_sizes_are_those_of_the_last_good_point(scene: Scene) -> None:
    """A claim says only how much there may be."""
    begun = scene.begin()
    result = MoverResult(name="m", run=begun.run, volume=DATA, tree=scene.tree(file=b"x"), files=1, bytes_total=3 << 20)
    committed = commit.execute(
        begun,
        discovered=discovered("shop"),
        cuts=[a_cut(scene, "shop", DATA)],
        thaws=[a_thaw("shop")],
        exports=[an_export(DATA)],
        results=[result],
        policy=scene.policy,
        ports=scene.ports,
    )
    scene.finish(begun, committed=committed)

    assert f"10.0 GiB claimed, 3.0 MiB in {committed.point[:8]} of " in told(scene)


def test_what_would_be_missing_ends_with_five(scene: Scene) -> None:
    """As the run would: a volume that cannot be cut, or a hook that finds no pod."""
    scene.cluster.remove("pods", "db-0", "shop")
    hookless = look(scene)
    scene.cluster.remove("volumesnapshotclasses", "standard")
    said = told(scene)

    assert [hook.missing != () for prospect in hookless.prospects for hook in prospect.hooks] == [True]
    assert verdict(hookless) == 5
    assert "hook spec.quiesce.hooks.0 is missed:" in said
    assert "not captured: volumes/shop/data: no-snapshot-class" in said


def test_what_breaks_the_limits_ends_with_three(scene: Scene) -> None:
    """Production without a lock, with a bucket inside the cluster that it protects."""
    scene.policy = a_policy(schedule="@daily", objectives={"rpo": "1d"})
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s3", "namespace": "shop"},
        "spec": {"clusterIPs": ["10.96.0.7"]},
    }
    scene.cluster.put(service)
    inside = {"AWS_ENDPOINT_URL": "http://10.96.0.7:9000"}
    scene.changes = {"settings": Settings(cluster_name="test", store_environment=inside)}
    seen = look(scene, BUILT_IN.limits(Environment.PRODUCTION))

    assert [one.path for one in seen.limits] == ["spec.target.lock", "spec.target.url"]
    assert "10.96.0.7 is in the cluster that is protected" in seen.limits[1].problem
    assert verdict(seen) == 3


def test_a_namespace_of_another_environment_is_a_warning_and_is_captured(scene: Scene) -> None:
    """It costs no data, and whoever plans is told."""
    scene.cluster.put(a_namespace("shop", labels={"becalm.dev/environment": "production"}))
    seen = look(scene)
    said = "\n".join(outlook.sentences(seen))

    assert "namespaces/shop: it is labelled becalm.dev/environment=production, and the policy is for test" in said
    assert [prospect.application.name for prospect in seen.prospects] == ["shop"]
    assert seen.discovered.findings == ()
    assert verdict(seen) == 3


def test_what_only_informs_stops_no_plan(scene: Scene) -> None:
    """No repository, a bucket that does not answer, pods that may not be listed: remarks."""
    scene.changes = {"store": MemoryStore()}
    empty = told(scene)
    silent = MemoryStore()
    scene.changes = {"store": _Silent(silent)}
    deaf = told(scene)
    found = discover.execute(scene.policy, scene.ports)
    scene.cluster.fail(AccessDenied("not for you"), verb="list", kind="pods")
    blind = outlook.execute(scene.policy, replace(scene.ports, store=silent), limits=Limits(), discovered=found)

    assert "remark: there is no repository yet: becalm init makes it" in empty
    assert "remark: the last recovery point could not be read" in deaf
    assert [remark for remark in blind.remarks if "where spec.quiesce.hooks.0 would run could not be looked up" in remark]


class _Silent(Counting):
    """A bucket that does not answer."""

    def get(self, key: Any, span: Any = None) -> bytes:
        """Answer nothing."""
        raise StoreUnavailable("no answer", where=str(key) + str(span or ""))


def test_a_policy_that_selects_nothing_is_refused_as_by_a_run(scene: Scene) -> None:
    """There is nothing to plan."""
    scene.policy = a_policy(select={"namespaces": ["none-*"]})

    with pytest.raises(NothingSelected):
        look(scene)


def test_objects_and_certificates_are_counted_where_that_is_asked(scene: Scene) -> None:
    """As a capture would list them. A kind that may not be listed ends with five, as the run would."""
    scene.cluster.put(a_config_map("one"), a_config_map("two"))
    limits = BUILT_IN.limits(scene.policy.spec.environment)
    seen = outlook.execute(scene.policy, scene.ports, limits=limits, count=True)
    said = list(outlook.sentences(seen))
    scene.cluster.fail(AccessDenied("not for you"), verb="list", kind="configmaps")
    blind = outlook.execute(scene.policy, scene.ports, limits=limits, count=True)

    assert seen.surveyed is not None
    assert seen.surveyed.objects["configmaps"] == 2
    assert f"objects: {sum(seen.surveyed.objects.values())} of {len(seen.surveyed.objects)} kinds" in said
    assert "  2 configmaps" in said
    assert "certificates: 0" in said
    assert (verdict(seen), verdict(blind)) == (0, 5)
    assert "not captured: configmaps in shop: not listed: not for you" in "\n".join(outlook.sentences(blind))
    assert document(seen, ok=True)["objects"]["configmaps"] == 2
    assert look(scene).surveyed is None


def test_what_pods_keep_outside_claims_is_told_beside_their_application(scene: Scene) -> None:
    """Whoever keeps something there learns it before it is lost."""
    scene.cluster.put(a_pod("web-0", volumes=[{"name": "cache", "emptyDir": {}}, {"name": "sock", "hostPath": {"path": "/run/x"}}]))
    said = list(outlook.sentences(look(scene)))
    place = said.index("application shop: namespaces shop")
    beside = [line for line in said if line.startswith("  beside it, not captured: ")]

    assert beside[0].endswith("web-0: emptyDir cache: only claims are captured: what must not be lost belongs on one")
    assert [line.split(": ")[2] for line in beside] == ["emptyDir cache", "hostPath /run/x"]
    assert place < said.index(beside[0])
    assert not [line for line in said if line.startswith("left out: pods/")]


@pytest.mark.parametrize(("blueprint", "untested"), [("mongodb", True), ("redis", False)])
def test_a_blueprint_that_no_test_runs_is_called_untested(scene: Scene, blueprint: str, untested: bool) -> None:
    """Its page says so, and so does the plan."""
    scene.policy = a_policy(quiesce={"hooks": [{"select": {"labels": "app=db"}, "use": blueprint}]}, environment="test")
    seen = look(scene)
    (line,) = [line for line in outlook.sentences(seen) if line.startswith(f"    by the blueprint {blueprint}")]

    assert ("UNTESTED" in line) is untested
    assert document(seen, ok=True)["applications"][0]["hooks"][0]["untested"] is untested


def test_programs_get_the_same(scene: Scene) -> None:
    """Volumes with how they are captured, hooks with their places, and everything that is left out."""
    answer = document(look(scene), ok=True)
    (application,) = answer["applications"]

    assert [(item["volume"]["claim"], item["use"], item["how"]) for item in application["volumes"]] == [
        ("data", "snapshot", "cut by itself by the snapshot class standard"),
        ("logs", "live", "read live, while it changes"),
    ]
    assert application["hooks"][0]["places"] == ["shop/db-0 (main)"]
    assert {item["what"] for item in answer["left_out"]} == {"volumes/shop/cache", "volumes/shop/new"}
    assert (answer["ok"], answer["findings"], answer["limits"]) == (True, [], [])
