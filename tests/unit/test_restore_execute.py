"""The execution of a restore: exactly its plan, owners linked, data before workloads, and a second time nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from becalm.actions import restore
from becalm.actions.restore import Action, RestoreRequest
from becalm.errors import AccessDenied, AlreadyExists, BecalmError, ClusterChanged, ClusterUnavailable, PointMissing, RestoreRefused
from becalm.model import Finding, MoverResult, MoverSpec
from becalm.testing.fake_cluster import DEFAULT_KINDS, FakeCluster
from becalm.testing.fake_mover import as_asked
from becalm.testing.manifests import a_claim, a_definition, a_deployment, a_map, a_namespace, a_secret, an_object
from becalm.testing.restore_scenes import CAMPAIGN, WRITING, Scene

FILES = {"shop/data": {"db/a": b"1234"}}


class Killed(BaseException):
    """The process ends here: nothing catches it."""


SHOP = (a_namespace(), a_map(level="1"), a_secret(key="YQ=="), a_claim(), a_deployment())


def test_everything_that_was_planned_is_made_and_nothing_else() -> None:
    """The calls are the plan: one creation per object, and the mark of the filled claim."""
    scene = Scene(SHOP, volumes=FILES)
    plan = scene.prepare()
    assert scene.writes() == []
    report = scene.execute(plan)
    made = [(kind, name) for verb, kind, name in scene.writes() if verb == "create" and not name.startswith("becalm-")]

    assert report.ok
    assert (report.created, len(report.volumes)) == (len(plan.steps), 1)
    assert sorted(made) == sorted((str(step.api), step.target.name) for step in plan.steps)
    assert [write for write in scene.writes() if write[0] not in {"create", "delete"}] == [("merge", "persistentvolumeclaims", "data")]
    assert restore.verify(plan, scene.request, scene.ports).ok


def test_the_data_is_there_before_a_workload_that_mounts_it() -> None:
    """The mover is the first consumer of the claim, and gone before the Deployment comes."""
    scene = Scene(SHOP, volumes=FILES)
    scene.movers.answer = lambda spec: as_asked(spec) if not scene.cluster.all("deployments") else None
    report = scene.execute()
    mover = scene.movers.started[0]

    assert report.ok
    assert (mover.namespace, mover.claim, mover.tree) == ("shop", "data", scene.point.volumes["shop/data"])
    assert scene.movers.at_work == {}
    assert scene.live("persistentvolumeclaims", "data")["metadata"]["annotations"]["becalm.dev/filled"] == mover.tree


def test_the_credentials_are_in_the_namespace_only_while_movers_run() -> None:
    """The Secret holds the password and the store's keys, carries the run's labels, and goes, also after a failure."""
    scene = Scene(SHOP, volumes=FILES)
    seen: list[dict] = []

    def look(spec: MoverSpec) -> MoverResult | None:
        seen.extend(item for item in scene.cluster.all("secrets") if item["metadata"]["name"] == spec.secret)
        return None

    scene.movers.answer = look
    report = scene.execute()

    assert not report.ok
    assert set(seen[0]["data"]) == {"AWS_ACCESS_KEY_ID", "password"}
    assert seen[0]["metadata"]["labels"]["becalm.dev/run"] == report.run
    assert [item["metadata"]["name"] for item in scene.cluster.all("secrets")] == ["tls"]


def test_a_second_restore_changes_nothing() -> None:
    """Everything is there and says the same: not one call that writes."""
    scene = Scene(SHOP, volumes=FILES)
    scene.execute()
    scene.cluster.calls.clear()
    plan = scene.prepare()
    report = scene.execute(plan)

    assert plan.changes_nothing
    assert report.ok
    assert scene.writes() == []


def test_executing_the_same_plan_twice_changes_nothing() -> None:
    """A task that runs twice adopts what it made."""
    scene = Scene(SHOP, volumes=FILES)
    plan = scene.prepare()
    scene.execute(plan)
    before = {kind.resource: scene.cluster.all(kind.resource, kind.group) for kind in DEFAULT_KINDS}
    scene.movers.started.clear()
    report = scene.execute(plan)

    assert report.ok
    assert {kind.resource: scene.cluster.all(kind.resource, kind.group) for kind in DEFAULT_KINDS} == before
    assert scene.movers.started == []


def test_owners_are_linked_to_their_new_uids() -> None:
    """Owners of the same wave come first; where an owner comes later, the reference is added when it is there."""
    owner = a_map("owner")
    deployment = a_deployment()
    scene = Scene(
        (
            a_namespace(),
            owner,
            a_map("owned", owners=(owner,)),
            a_secret("late") | {"metadata": a_map("late", owners=(deployment,))["metadata"]},
            deployment,
        )
    )
    report = scene.execute()
    uids = {name: scene.live(resource, name)["metadata"]["uid"] for resource, name in (("configmaps", "owner"), ("deployments", "web"))}

    assert report.ok
    assert report.linked == 1
    assert [one["uid"] for one in scene.live("configmaps", "owned")["metadata"]["ownerReferences"]] == [uids["owner"]]
    assert [one["uid"] for one in scene.live("secrets", "late")["metadata"]["ownerReferences"]] == [uids["web"]]
    assert owner["metadata"]["uid"] not in uids.values()


def test_an_old_uid_is_never_written() -> None:
    """Nothing of an old owner reaches the cluster: the garbage collector would delete what names it."""
    owner = a_map("owner")
    scene = Scene(
        (a_namespace(), owner, a_map("owned", owners=(owner,))), request=RestoreRequest(policy="shop", objects=("configmaps/shop/owned",))
    )
    scene.execute()

    assert "ownerReferences" not in scene.live("configmaps", "owned")["metadata"]


def test_a_definition_is_served_before_its_objects_come() -> None:
    """The execution waits until discovery shows the new kind."""
    scene = Scene((a_namespace(), a_definition(), an_object("shop.example.org/v1", "Campaign", "spring")))
    asked = 0
    discover = scene.cluster.discover

    def slow() -> object:
        nonlocal asked
        asked += 1
        if asked == 4:
            scene.cluster.kinds.append(CAMPAIGN)
        return discover()

    slow_cluster = _Slow(scene.cluster, slow)
    ports = replace(scene.ports, cluster=slow_cluster)
    report = restore.execute(restore.prepare(scene.request, ports), scene.request, ports)

    assert report.ok
    assert scene.live("campaigns", "spring")
    assert scene.clock.slept


class _Slow:
    """A cluster that takes its time to serve a new kind."""

    def __init__(self, cluster: FakeCluster, discover: object) -> None:
        self._cluster = cluster
        self.discover = discover

    def __getattr__(self, name: str) -> object:
        return getattr(self._cluster, name)


def test_the_account_that_the_cluster_makes_is_merged() -> None:
    """A new namespace has a default service account at once; it gets what the saved one had."""
    account = an_object("v1", "ServiceAccount", "default", imagePullSecrets=[{"name": "registry"}])
    scene = Scene((a_namespace(), account))
    report = scene.execute()
    again = scene.prepare()

    assert report.ok
    assert scene.live("serviceaccounts", "default")["imagePullSecrets"] == [{"name": "registry"}]
    assert again.changes_nothing


def test_in_a_namespace_that_was_there_the_default_account_is_kept() -> None:
    """Nothing that exists is overwritten, not even that."""
    account = an_object("v1", "ServiceAccount", "default", imagePullSecrets=[{"name": "registry"}])
    scene = Scene((a_namespace(), account), there=(a_namespace(), an_object("v1", "ServiceAccount", "default")))

    assert scene.prepare().changes_nothing


def test_a_volume_that_was_not_filled_holds_back_the_workloads_of_its_namespace() -> None:
    """No database starts on an empty volume; other namespaces go on, and the next restore fills it and goes on."""
    other = (a_namespace("bank"), a_deployment("teller", namespace="bank"))
    scene = Scene((*SHOP, *other), volumes=FILES)
    scene.movers.answer = lambda _: None
    report = scene.execute()
    names = [item["metadata"]["name"] for item in scene.cluster.all("deployments")]

    assert [finding.where for finding in report.failures] == ["volumes/shop/data", "deployments.apps/shop/web"]
    assert "OOMKilled" in str(report.failures[0])
    assert names == ["teller"]

    scene.movers.answer = as_asked
    again = scene.execute()

    assert again.ok
    assert [item["metadata"]["name"] for item in scene.cluster.all("deployments")] == ["teller", "web"]


def test_a_mover_that_restored_another_tree_has_failed() -> None:
    """The digest decides, not the exit code."""
    scene = Scene(SHOP, volumes=FILES)
    scene.movers.answer = lambda spec: replace(as_asked(spec), tree="other")
    plan = scene.prepare()
    report = scene.execute(plan)

    assert "the mover restored the tree other" in str(report.failures[0])
    assert [finding.where for finding in restore.verify(plan, scene.request, scene.ports).failures] == [
        "deployments.apps/shop/web",
        "volumes/shop/data",
    ]


def test_files_that_could_not_be_restored_as_they_were_are_failures() -> None:
    """They are named, and the verdict is not a success."""
    scene = Scene(SHOP, volumes=FILES)
    scene.movers.answer = lambda spec: replace(as_asked(spec), unreadable=(Finding(where="db/a", message="no owner"),))

    assert [finding.where for finding in scene.execute().failures] == ["db/a"]


def test_what_the_server_refuses_is_a_failure_and_the_rest_goes_on() -> None:
    """One refused object does not stop the others, and what it owned says why it is alone."""
    owner = a_map("owner")
    scene = Scene((a_namespace(), owner, a_map("owned", owners=(owner,)), a_secret()))
    scene.cluster.fail(AccessDenied("no", hint="ask for it"), verb="create", kind="configmaps", name="owner")
    report = scene.execute()

    assert [(finding.where, finding.message) for finding in report.failures] == [
        ("configmaps/shop/owner", "no"),
        ("configmaps/shop/owned", "is not linked to its owner, which was not created: ConfigMap owner"),
    ]
    assert report.created == 3


def test_an_object_that_came_after_the_plan_is_not_touched() -> None:
    """The execution stops before it writes anything, and names the object; the next plan shows it."""
    scene = Scene(SHOP[:3])
    plan = scene.prepare()
    scene.cluster.put(a_namespace(), a_map(level="theirs"), a_secret(key="YQ=="))
    with pytest.raises(ClusterChanged, match="configmaps/shop/settings appeared after the plan"):
        scene.execute(plan)

    assert scene.writes() == []
    assert scene.live("configmaps", "settings")["data"] == {"level": "theirs"}


def test_a_forbidden_plan_is_not_executed() -> None:
    """Not one call."""
    scene = Scene((a_namespace(), a_claim(storage_class="fast")))

    with pytest.raises(RestoreRefused, match="needs the storage class fast"):
        scene.execute()
    assert scene.writes() == []


def test_a_mapped_restore_leaves_the_origin_alone() -> None:
    """Beside the live application, another one comes up with its own claim."""
    scene = Scene(SHOP, volumes=FILES, there=SHOP, request=RestoreRequest(policy="shop", namespace_mapping={"shop": "shop2"}))
    before = [item for item in scene.cluster.all("configmaps") if item["metadata"]["namespace"] == "shop"]
    report = scene.execute()

    assert report.ok
    assert scene.movers.started[0].namespace == "shop2"
    assert [item for item in scene.cluster.all("configmaps") if item["metadata"]["namespace"] == "shop"] == before
    assert {place.namespace for place in scene.cluster.calls if place.verb in WRITING} <= {"", "shop2"}


def test_an_unknown_point_is_named() -> None:
    """The error tells what there is."""
    scene = Scene(SHOP, request=RestoreRequest(policy="shop", point="ffffffff"))

    with pytest.raises(PointMissing):
        scene.prepare()


def test_an_object_that_lies_about_its_place_forbids_the_restore() -> None:
    """A hostile point names another namespace inside an object than in its path."""
    scene = Scene(
        SHOP[:2],
        raw={
            "resources/core/configmaps/shop/evil.json": b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"evil","namespace":"kube-system"}}'
        },
    )
    plan = scene.prepare()

    assert [finding.where for finding in plan.blocking] == ["resources/core/configmaps/shop/evil.json"]


def test_a_secret_of_somebody_else_is_not_taken_for_ours() -> None:
    """A Secret of the mover's name that is not of this restore is neither overwritten nor removed."""
    scene = Scene(SHOP, volumes=FILES)
    plan = scene.prepare()
    name = f"becalm-{restore.restore_run(plan, scene.request)}"
    scene.cluster.put(a_namespace(), a_secret(name, key="dGhlaXJz"))

    with pytest.raises(AlreadyExists, match="not of this run"):
        scene.execute(plan)
    assert scene.live("secrets", name)["data"] == {"key": "dGhlaXJz"}


@pytest.mark.parametrize(
    ("fault", "reply"), [(Killed("killed"), "lost after"), (ClusterUnavailable("away"), "lost before")], ids=["killed", "away"]
)
def test_killed_at_any_call_and_run_again_it_ends_as_if_uninterrupted(fault: BaseException, reply: str) -> None:
    """At each call that writes, before or after it had its effect: the next execution goes on, and the end is the same."""
    owner = a_map("owner")
    objects = (
        *SHOP,
        owner,
        a_map("owned", owners=(owner,)),
        a_secret("late") | {"metadata": a_map("late", owners=(a_deployment(),))["metadata"]},
    )
    calm = Scene(objects, volumes=FILES)
    calm.execute()
    expected = _state(calm)
    calls = len(calm.writes())

    for number in range(calls):
        scene = Scene(objects, volumes=FILES)
        broken = replace(scene.ports, cluster=_Broken(scene.cluster, number, fault, after=reply == "lost after"))
        with pytest.raises(type(fault)):
            restore.execute(restore.prepare(scene.request, broken), scene.request, broken)
        plan = scene.prepare()
        report = scene.execute(plan)

        assert report.ok, (number, report.failures)
        assert _state(scene) == expected, number
        assert scene.prepare().changes_nothing


class _Broken:
    """A cluster whose n-th writing call does not come back."""

    def __init__(self, cluster: FakeCluster, number: int, fault: BaseException, *, after: bool) -> None:
        self._cluster, self._left, self._fault, self._after = cluster, number, fault, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._cluster, name)

    def _call(self, name: str, *arguments: object, **more: object) -> object:
        self._left -= 1
        if self._left < -1:
            raise self._fault
        if self._left == -1 and not self._after:
            raise self._fault
        answer = getattr(self._cluster, name)(*arguments, **more)
        if self._left == -1:
            raise self._fault
        return answer

    def apply(self, *arguments: object, **more: object) -> object:
        if getattr(arguments[0], "group", "") == "authorization.k8s.io":
            return self._cluster.apply(*arguments, **more)  # a question, and no write
        return self._call("apply", *arguments, **more)

    def delete(self, *arguments: object, **more: object) -> object:
        return self._call("delete", *arguments, **more)


def _state(scene: Scene) -> list[str]:
    """Everything that stands in the cluster, with names in the place of uids."""
    found = [item for kind in DEFAULT_KINDS for item in scene.cluster.all(kind.resource, kind.group)]
    names = {item["metadata"]["uid"]: f"uid of {item['kind']} {item['metadata']['name']}" for item in found}
    lines = []
    for item in found:
        metadata = {key: value for key, value in item["metadata"].items() if key not in {"uid", "resourceVersion"}}
        metadata["ownerReferences"] = [{**one, "uid": names.get(one["uid"], "dangling")} for one in metadata.get("ownerReferences", [])]
        line = repr(sorted({**item, "metadata": metadata}.items(), key=lambda pair: pair[0]))
        lines.append(line.replace(scene.point.id, "the point"))
    return sorted(lines)


def test_errors_of_a_restore_are_ours() -> None:
    """A movers' port that is missing is said so, in one sentence."""
    scene = Scene(SHOP, volumes=FILES)
    with pytest.raises(BecalmError, match="nothing to run movers with"):
        restore.execute(scene.prepare(), scene.request, replace(scene.ports, movers=None))


def test_the_steps_of_a_plan_are_told_by_action() -> None:
    """A report counts what the plan says."""
    scene = Scene((*SHOP, an_object("v1", "Event", "gone")), there=(a_namespace(), a_map(level="2")))
    plan = scene.prepare()
    report = scene.execute(plan)

    assert (report.created, report.kept, report.skipped) == (3, 2, 1)
    assert len(plan.steps_to(Action.SKIP)) == 1
