"""What becomes of what exists: every mode does what its plan says and nothing else, and by default nothing that exists is touched."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.actions import restore
from becalm.actions.restore import Action, RestoreRequest
from becalm.errors import ClusterChanged, NotFound
from becalm.kube.base import Verb
from becalm.testing.fake_cluster import DEFAULT_KINDS
from becalm.testing.manifests import a_claim, a_definition, a_deployment, a_map, a_namespace, a_secret, an_object
from becalm.testing.restore_scenes import CAMPAIGN, Scene

SAVED = (a_namespace(), a_map(level="1", old="x"), a_secret(key="YQ=="), a_deployment())
THERE = (a_namespace(), a_map(level="2", new="y"), a_secret(key="Yg=="), a_deployment(image="web:2"))
VERBS = {
    Action.CREATE: ("create",),
    Action.LINK: ("merge",),
    Action.MERGE: ("force-apply",),
    Action.REPLACE: ("update",),
    Action.RECREATE: ("delete", "create"),
}


def asking(**more: object) -> RestoreRequest:
    """A request of the policy shop."""
    return RestoreRequest.read({"policy": "shop", **more})


def acted(scene: Scene) -> dict[str, Action]:
    """What the plan does to each object."""
    return {str(step.target): step.action for step in scene.prepare().steps}


def test_a_merge_sets_what_the_point_says_and_leaves_the_rest() -> None:
    """The field that only the cluster has stays; the object stays the same one."""
    scene = Scene(SAVED, there=THERE, request=asking(conflict="merge"))
    uid = scene.live("configmaps", "settings")["metadata"]["uid"]
    plan = scene.prepare()
    report = scene.execute(plan)
    found = scene.live("configmaps", "settings")

    assert report.ok
    assert report.merged == 3
    assert found["data"] == {"level": "1", "old": "x", "new": "y"}
    assert found["metadata"]["uid"] == uid
    assert restore.verify(plan, scene.request, scene.ports).ok
    assert scene.prepare().changes_nothing


def test_a_replacement_says_only_what_the_point_says() -> None:
    """The field that only the cluster had is gone; the object stays the same one, with the server's own marks."""
    there = a_map(level="2", new="y")
    there["metadata"]["finalizers"] = ["foregroundDeletion"]
    scene = Scene(SAVED[:2], there=(a_namespace(), there), request=asking(conflict="replace"))
    uid = scene.live("configmaps", "settings")["metadata"]["uid"]
    report = scene.execute()
    found = scene.live("configmaps", "settings")

    assert report.replaced == 1
    assert found["data"] == {"level": "1", "old": "x"}
    assert (found["metadata"]["uid"], found["metadata"]["finalizers"]) == (uid, ["foregroundDeletion"])
    assert scene.prepare().changes_nothing


def test_delete_and_restore_makes_another_object() -> None:
    """The very object that the plan saw is deleted, and the saved one made."""
    scene = Scene(SAVED[:2], there=THERE[:2], request=asking(conflict="delete-and-restore"))
    uid = scene.live("configmaps", "settings")["metadata"]["uid"]
    report = scene.execute()
    found = scene.live("configmaps", "settings")

    assert report.recreated == 1
    assert found["data"] == {"level": "1", "old": "x"}
    assert found["metadata"]["uid"] != uid
    assert scene.prepare().changes_nothing


def test_a_mode_can_be_said_for_one_kind() -> None:
    """`--conflict replace --conflict secrets=skip`."""
    scene = Scene(SAVED, there=THERE, request=asking(conflict="replace", conflict_by_kind={"secrets": "skip", "Deployment": "merge"}))

    assert acted(scene) == {
        "namespaces/shop": Action.KEEP,
        "configmaps/shop/settings": Action.REPLACE,
        "secrets/shop/tls": Action.KEEP,
        "deployments.apps/shop/web": Action.MERGE,
    }


def test_what_belongs_to_no_namespace_is_changed_only_where_its_kind_is_named() -> None:
    """A role of the whole cluster is nobody's own."""
    rbac = "rbac.authorization.k8s.io/v1"
    saved = an_object(rbac, "ClusterRole", "reader", namespace=None, rules=[{"verbs": ["get"]}])
    there = an_object(rbac, "ClusterRole", "reader", namespace=None, rules=[{"verbs": ["*"]}])
    unnamed = Scene((*SAVED, saved), there=(*THERE, there), request=asking(conflict="replace"))
    named = Scene((*SAVED, saved), there=(*THERE, there), request=asking(conflict="replace", cluster_kinds=["clusterroles"]))
    ref = "clusterroles.rbac.authorization.k8s.io/reader"

    assert (acted(unnamed)[ref], acted(named)[ref]) == (Action.KEEP, Action.REPLACE)


@pytest.mark.parametrize("mode", ["merge", "replace", "delete-and-restore"])
def test_no_mode_deletes_a_definition_a_namespace_or_a_claim(mode: str) -> None:
    """With each of them would go what nobody named: they are changed less than asked, and the plan says so."""
    labelled = {"labels": {"team": "a"}}
    saved = (a_namespace(labels={"team": "a"}), a_definition(), a_claim())
    saved[1]["metadata"] |= labelled
    saved[2]["metadata"] |= labelled
    kind = "customresourcedefinitions.apiextensions.k8s.io"
    request = asking(conflict=mode, conflict_by_kind={kind: mode})
    scene = Scene(saved, there=(a_namespace(), a_definition(), a_claim()), request=request, kinds=(*DEFAULT_KINDS, CAMPAIGN))
    before = {kind: [one["metadata"]["uid"] for one in scene.cluster.all(kind)] for kind in ("namespaces", "persistentvolumeclaims")}
    report = scene.execute()

    assert report.ok
    assert scene.cluster.recorded("delete", kind) == []
    assert scene.cluster.recorded("delete", "namespaces") == []
    assert scene.cluster.recorded("delete", "persistentvolumeclaims") == []
    assert {kind: [one["metadata"]["uid"] for one in scene.cluster.all(kind)] for kind in before} == before
    assert scene.live("namespaces", "shop")["metadata"]["labels"]["team"] == "a"


def test_a_merged_claim_is_not_taken_for_a_restored_one() -> None:
    """Its data is its own: no mark says that it came from the point, and nothing is written into it later."""
    saved = a_claim()
    saved["metadata"]["labels"] = {"team": "a"}
    scene = Scene(
        (a_namespace(), saved), volumes={"shop/data": {"a": b"1"}}, there=(a_namespace(), a_claim()), request=asking(conflict="merge")
    )
    scene.execute()
    marks = scene.live("persistentvolumeclaims", "data")["metadata"].get("annotations", {})

    assert "becalm.dev/restored-from" not in marks
    assert scene.movers.started == []


def test_what_the_server_never_changes_is_kept_and_the_plan_says_what_would_help() -> None:
    """A selector of a Deployment cannot be changed: nothing is tried, and delete-and-restore is only suggested."""
    there = a_deployment()
    there["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    frozen = an_object("v1", "ConfigMap", "frozen", data={"a": "1"})
    frozen_there = an_object("v1", "ConfigMap", "frozen", data={"a": "2"}, immutable=True)
    scene = Scene((a_namespace(), a_deployment(), frozen), there=(a_namespace(), there, frozen_there), request=asking(conflict="replace"))
    plan = scene.prepare()

    assert plan.changes_nothing
    assert [(finding.where, "delete-and-restore" in finding.message) for finding in plan.findings] == [
        ("configmaps/shop/frozen", True),
        ("deployments.apps/shop/web", True),
    ]


@pytest.mark.parametrize("mode", ["merge", "replace", "delete-and-restore"])
def test_an_object_that_changed_after_the_plan_stops_the_restore_before_it_writes(mode: str) -> None:
    """It is named, and nothing at all was written; what a controller says in its status is no change."""
    scene = Scene(SAVED, there=THERE, request=asking(conflict=mode))
    plan = scene.prepare()
    status = scene.live("deployments", "web") | {"status": {"readyReplicas": 1}}
    scene.cluster.put(status)
    scene.cluster.put(a_map(level="3"))

    with pytest.raises(ClusterChanged, match="configmaps/shop/settings says something else") as caught:
        scene.execute(plan)
    assert "deployments" not in str(caught.value)
    assert scene.writes() == []


@pytest.mark.parametrize("mode", ["merge", "replace", "delete-and-restore"])
def test_another_object_of_the_same_name_is_not_touched(mode: str) -> None:
    """It was deleted and made again since the plan: its uid is another one."""
    scene = Scene(SAVED[:2], there=THERE[:2], request=asking(conflict=mode))
    plan = scene.prepare()
    other = a_map(level="2", new="y")
    other["metadata"]["uid"] = "another"
    scene.cluster.put(other)

    with pytest.raises(ClusterChanged, match="another object"):
        scene.execute(plan)
    assert scene.writes() == []


def test_a_write_that_meets_a_controllers_write_is_tried_again() -> None:
    """The version moved on, what the object says did not."""
    scene = Scene(SAVED[:2], there=THERE[:2], request=asking(conflict="replace"))
    plan = scene.prepare()
    inner = scene.cluster.apply
    met: list[str] = []

    class Busy:
        def __getattr__(self, name: str) -> object:
            return getattr(scene.cluster, name)

        def apply(self, kind: object, manifest: dict, **more: object) -> dict:
            if more.get("verb") is Verb.UPDATE and not met:
                met.append("once")
                scene.cluster.put(scene.live("configmaps", "settings") | {"status": {"seen": True}})
            return inner(kind, manifest, **more)

    report = restore.execute(plan, scene.request, replace(scene.ports, cluster=Busy()))

    assert (report.replaced, met) == (1, ["once"])
    assert scene.live("configmaps", "settings")["data"] == {"level": "1", "old": "x"}


@pytest.mark.parametrize("mode", ["merge", "replace", "delete-and-restore"])
def test_the_same_plan_carried_out_twice_changes_nothing_the_second_time(mode: str) -> None:
    """A task that runs again adopts what it did."""
    scene = Scene(SAVED, there=THERE, request=asking(conflict=mode))
    plan = scene.prepare()
    scene.execute(plan)
    uids = {one["metadata"]["uid"] for kind in DEFAULT_KINDS for one in scene.cluster.all(kind.resource, kind.group)}
    scene.cluster.calls.clear()
    report = scene.execute(plan)

    assert report.ok
    assert scene.writes() == []
    assert uids == {one["metadata"]["uid"] for kind in DEFAULT_KINDS for one in scene.cluster.all(kind.resource, kind.group)}


class Killed(BaseException):
    """The process ends here: nothing catches it."""


@pytest.mark.parametrize("mode", ["merge", "replace", "delete-and-restore"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_write_the_next_restore_ends_the_same(mode: str, *, after: bool) -> None:
    """Between a deletion and the object that takes its place, too."""
    calm = Scene(SAVED, there=THERE, request=asking(conflict=mode))
    calm.execute()
    expected = [calm.live(kind, name).get("data") or calm.live(kind, name).get("spec") for kind, name in PLACES]
    for number in range(len(calm.writes())):
        scene = Scene(SAVED, there=THERE, request=asking(conflict=mode))
        plan = scene.prepare()
        with pytest.raises(Killed):
            restore.execute(plan, scene.request, replace(scene.ports, cluster=Dying(scene.cluster, number, after=after)))
        again = scene.execute(scene.prepare())

        assert again.ok, (number, again.failures)
        assert [scene.live(kind, name).get("data") or scene.live(kind, name).get("spec") for kind, name in PLACES] == expected
        assert scene.prepare().changes_nothing


PLACES = (("configmaps", "settings"), ("secrets", "tls"), ("deployments", "web"))


class Dying:
    """A cluster at whose n-th write the process is killed."""

    def __init__(self, cluster: object, number: int, *, after: bool) -> None:
        self._cluster, self._left, self._after = cluster, number, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._cluster, name)

    def _call(self, name: str, *arguments: object, **more: object) -> object:
        self._left -= 1
        if self._left < -1 or (self._left == -1 and not self._after):
            raise Killed
        answer = getattr(self._cluster, name)(*arguments, **more)
        if self._left == -1:
            raise Killed
        return answer

    def apply(self, *arguments: object, **more: object) -> object:
        """Write, or be killed."""
        return self._call("apply", *arguments, **more)

    def delete(self, *arguments: object, **more: object) -> object:
        """Delete, or be killed."""
        return self._call("delete", *arguments, **more)


NAMES = ("a", "b", "c")
CONTENT = st.sampled_from([None, {"x": "1"}, {"x": "2"}, {"x": "1", "y": "1"}])
POINTS = st.fixed_dictionaries({(kind, name): CONTENT for kind in ("ConfigMap", "Secret") for name in NAMES})
MODES = st.sampled_from(["skip", "merge", "replace", "delete-and-restore"])


def objects(content: dict) -> list[dict]:
    """The objects of a drawn point or cluster."""
    return [an_object("v1", kind, name, data=dict(data)) for (kind, name), data in content.items() if data is not None]


@settings(deadline=None, max_examples=40)
@given(POINTS, POINTS, MODES, st.dictionaries(st.sampled_from(["secrets", "configmaps"]), MODES))
def test_the_calls_that_are_made_are_the_calls_that_were_planned(held: dict, there: dict, mode: str, by_kind: dict) -> None:
    """In every mode, over any point and any cluster. By default nothing that exists is updated, patched or deleted."""
    scene = Scene(
        (a_namespace(), *objects(held)), there=(a_namespace(), *objects(there)), request=asking(conflict=mode, conflict_by_kind=by_kind)
    )
    plan = scene.prepare()
    report = scene.execute(plan)
    planned = sorted((verb, str(step.api), step.target.name) for step in plan.steps for verb in VERBS.get(step.action, ()))

    assert report.ok
    assert sorted(scene.writes()) == planned
    assert {mode, *by_kind.values()} != {"skip"} or {verb for verb, _, _ in planned} <= {"create"}
    assert scene.prepare().changes_nothing


def test_an_owner_that_the_point_does_not_name_is_kept_by_a_replacement() -> None:
    """Nobody asked for the object to be taken from it."""
    owner = a_map("operator")
    there = a_map("settings", owners=(owner,), level="2")
    scene = Scene((a_namespace(), a_map(level="1")), there=(a_namespace(), owner, there), request=asking(conflict="replace"))
    scene.execute()

    assert [one["name"] for one in scene.live("configmaps", "settings")["metadata"]["ownerReferences"]] == ["operator"]
    assert scene.prepare().changes_nothing


def test_what_an_object_owns_is_linked_to_the_one_that_takes_its_place() -> None:
    """What it owned stays, and has its owner again."""
    owner, owner_there = a_map("owner", level="1"), a_map("owner", level="2")
    owned = a_map("owned", owners=(owner,))
    scene = Scene((a_namespace(), owner, owned), there=(a_namespace(), owner_there, owned), request=asking(conflict="delete-and-restore"))
    kept = scene.live("configmaps", "owned")["metadata"]["uid"]
    report = scene.execute()
    found = scene.live("configmaps", "owned")["metadata"]

    assert (report.ok, report.recreated, report.linked, found["uid"]) == (True, 1, 1, kept)
    assert [one["uid"] for one in found["ownerReferences"]] == [scene.live("configmaps", "owner")["metadata"]["uid"]]
    assert owner["metadata"]["uid"] != scene.live("configmaps", "owner")["metadata"]["uid"]
    assert scene.prepare().changes_nothing


def test_what_goes_away_while_the_plan_is_carried_out_is_named() -> None:
    """It was there when the execution began."""
    scene = Scene(SAVED[:2], there=THERE[:2], request=asking(conflict="merge"))
    plan = scene.prepare()
    scene.cluster.fail(NotFound("gone"), verb="force-apply", kind="configmaps")
    report = scene.execute(plan)

    assert [finding.where for finding in report.failures] == ["configmaps/shop/settings"]
