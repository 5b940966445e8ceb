"""The plan of a restore: every object and every volume with what is done to it and why, and what forbids the whole."""

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.actions.restore_live import Live
from becalm.actions.restore_plan import plan, targets
from becalm.actions.restore_request import RestoreRequest
from becalm.actions.restore_source import Contents, SavedObject, SavedVolume, mismatch
from becalm.actions.restore_steps import Action, RestorePlan, VolumeAction, demand
from becalm.errors import RestoreRefused, UsageError
from becalm.kube.base import Kind
from becalm.model import Finding, ResourceRef, VolumeRef, from_payload, payload
from becalm.testing.builders import a_point
from becalm.testing.fake_cluster import DEFAULT_KINDS
from becalm.testing.manifests import (
    a_claim,
    a_definition,
    a_deployment,
    a_map,
    a_namespace,
    a_secret,
    a_storage_class,
    an_object,
)

CAMPAIGN = Kind(group="shop.example.org", version="v1", resource="campaigns", kind="Campaign", namespaced=True)
POINT = a_point(id="ab" * 32)
OURS = {"becalm.dev/restored-from": POINT.id}


def saved(manifest: dict) -> SavedObject:
    """An object as it is read from a point."""
    kinds = {(kind.api_version, kind.kind): kind for kind in (*DEFAULT_KINDS, CAMPAIGN)}
    kind = kinds[manifest["apiVersion"], manifest["kind"]]
    metadata = manifest["metadata"]
    ref = ResourceRef(group=kind.group, resource=kind.resource, namespace=metadata.get("namespace"), name=metadata["name"])
    return SavedObject(ref=ref, kind=kind, manifest=manifest)


def contents(*manifests: dict, volumes: tuple[str, ...] = ()) -> Contents:
    """A recovery point."""
    refs = [VolumeRef.parse(text) for text in volumes]
    return Contents(
        objects=tuple(map(saved, manifests)),
        volumes={ref: SavedVolume(volume=ref, tree=f"tree of {ref}", size_bytes=5) for ref in refs},
    )


def live(*manifests: dict, classes: tuple[dict, ...] = (a_storage_class(),), kinds: tuple[Kind, ...] = DEFAULT_KINDS) -> Live:
    """A cluster."""
    return Live(kinds=kinds, objects={one.ref: one.manifest for one in map(saved, manifests)}, storage_classes=classes)


def decide(held: Contents, cluster: Live | None = None, **request: object) -> RestorePlan:
    """Plan a restore of the policy shop."""
    return plan(RestoreRequest.read({"policy": "shop", **request}), POINT, held, cluster or live())


def actions(decided: RestorePlan) -> dict[str, Action]:
    """What is done to each object, by its name in the cluster."""
    return {str(step.target): step.action for step in decided.steps}


SHOP = (a_namespace(), a_map(level="1"), a_secret(key="a"), a_claim(), a_deployment())


def test_into_an_empty_cluster_everything_is_created_and_data_comes_before_workloads() -> None:
    """Each object is created once, in the order of the classes; the claim is filled."""
    decided = decide(contents(*SHOP, volumes=("shop/data",)))

    assert [str(step.target) for step in decided.steps] == [
        "namespaces/shop",
        "persistentvolumeclaims/shop/data",
        "configmaps/shop/settings",
        "secrets/shop/tls",
        "deployments.apps/shop/web",
    ]
    assert {step.action for step in decided.steps} == {Action.CREATE}
    assert [(str(step.target), step.action, step.tree) for step in decided.volumes] == [
        ("shop/data", VolumeAction.FILL, "tree of shop/data")
    ]
    assert decided.blocking == ()


def test_what_exists_is_kept_and_its_differences_are_told() -> None:
    """The default never overwrites, whatever the point says."""
    decided = decide(contents(*SHOP[:3]), live(a_namespace(), a_map(level="2"), a_secret(key="a")))
    changed = next(step for step in decided.steps if step.kind == "ConfigMap")

    assert actions(decided) == {"namespaces/shop": Action.KEEP, "configmaps/shop/settings": Action.KEEP, "secrets/shop/tls": Action.KEEP}
    assert [str(change) for change in changed.changes] == ["data.level: '1' → '2'"]
    assert decided.changes_nothing


def test_a_plan_holds_no_secret_and_survives_a_hand_over() -> None:
    """What is printed, approved and passed between tasks says that a Secret differs, and not how."""
    decided = decide(contents(a_namespace(), a_secret(key="aGlkZGVu")), live(a_namespace(), a_secret(key="b3RoZXI=")))
    document = payload(decided)

    assert "aGlkZGVu" not in str(document)
    assert "b3RoZXI=" not in str(document)
    assert from_payload(RestorePlan, document) == decided


def test_with_conflict_fail_a_difference_forbids_the_restore() -> None:
    """Equal objects are no conflict; one that differs is."""
    cluster = live(a_namespace(), a_map(level="2"), a_secret(key="a"))
    decided = decide(contents(*SHOP[:3]), cluster, conflict="fail")

    assert [finding.where for finding in decided.blocking] == ["configmaps/shop/settings"]
    with pytest.raises(RestoreRefused, match="exists and differs in data"):
        demand(decided)


def test_a_live_claim_is_never_written_into() -> None:
    """Neither one that somebody made, nor one that an earlier restore filled, nor one of another point."""
    held = contents(a_namespace(), a_claim(), volumes=("shop/data",))

    def fate(**annotations: str) -> VolumeAction:
        claim = a_claim()
        claim["metadata"]["annotations"] = {
            key.replace("_", "-").replace("becalm-", "becalm.dev/"): value for key, value in annotations.items()
        }
        return decide(held, live(a_namespace(), claim)).volumes[0].action

    assert fate() is VolumeAction.KEEP
    assert fate(becalm_restored_from=POINT.id) is VolumeAction.KEEP
    assert fate(becalm_restored_from="another", becalm_filled="pending") is VolumeAction.KEEP
    assert fate(becalm_restored_from=POINT.id, becalm_filled="none") is VolumeAction.KEEP
    assert fate(becalm_restored_from=POINT.id, becalm_filled="tree of shop/data") is VolumeAction.KEEP
    assert fate(becalm_restored_from=POINT.id, becalm_filled="pending") is VolumeAction.FILL


def test_with_conflict_fail_a_live_claim_forbids_the_restore_of_its_data() -> None:
    """The data cannot go anywhere."""
    decided = decide(contents(a_namespace(), a_claim(), volumes=("shop/data",)), live(a_namespace(), a_claim()), conflict="fail")

    assert [finding.where for finding in decided.blocking] == ["volumes/shop/data"]


def test_namespaces_are_mapped_with_all_that_is_in_them() -> None:
    """The objects go into the new namespace; what stands in the old one is no conflict."""
    decided = decide(contents(*SHOP, volumes=("shop/data",)), live(*SHOP), namespace_mapping={"shop": "shop2"}, conflict="fail")

    assert {step.target.namespace or step.target.name for step in decided.steps} == {"shop2"}
    assert str(decided.volumes[0].target) == "shop2/data"
    assert decided.blocking == ()


def test_one_secret_brings_its_namespace_and_nothing_else() -> None:
    """`v1/Secret/shop/tls` is one object, and the place it stands in."""
    decided = decide(contents(*SHOP, a_secret("other"), volumes=("shop/data",)), objects=["v1/Secret/shop/tls"])

    assert set(actions(decided)) == {"namespaces/shop", "secrets/shop/tls"}
    assert decided.volumes == ()


def test_one_volume_brings_its_claim_and_namespace() -> None:
    """A volume by name restores the claim and its data, and no workload."""
    decided = decide(contents(*SHOP, a_claim("other"), volumes=("shop/data", "shop/other")), volumes=["shop/data"])

    assert set(actions(decided)) == {"namespaces/shop", "persistentvolumeclaims/shop/data"}
    assert [str(step.volume) for step in decided.volumes] == ["shop/data"]


def test_volumes_only_leaves_all_other_objects() -> None:
    """The data alone, with what it needs."""
    decided = decide(contents(*SHOP, volumes=("shop/data",)), volumes_only=True)

    assert set(actions(decided)) == {"namespaces/shop", "persistentvolumeclaims/shop/data"}


def test_objects_only_makes_empty_claims_and_says_so() -> None:
    """No data is restored, and nobody is surprised."""
    decided = decide(contents(*SHOP, volumes=("shop/data",)), objects_only=True)

    assert decided.volumes[0].action is VolumeAction.EMPTY
    assert [finding.message for finding in decided.findings] == ["stays empty: no data was asked for"]


def test_selected_objects_bring_what_they_refer_to_and_nothing_else_from_outside() -> None:
    """A claim brings its class, a custom resource its definition, a binding its role; unrelated objects stay."""
    rbac = "rbac.authorization.k8s.io/v1"
    campaign = an_object("shop.example.org/v1", "Campaign", "spring")
    role = an_object(rbac, "ClusterRole", "reader", namespace=None, rules=[])
    subject = {"kind": "ServiceAccount", "name": "web", "namespace": "shop"}
    binding = an_object(
        rbac, "ClusterRoleBinding", "readers", namespace=None, subjects=[subject], roleRef={"kind": "ClusterRole", "name": "reader"}
    )
    foreign = an_object(rbac, "ClusterRole", "foreign", namespace=None, rules=[])
    held = contents(
        *SHOP,
        campaign,
        role,
        binding,
        foreign,
        a_storage_class("standard"),
        a_storage_class("other"),
        a_definition(),
        a_map(namespace="bank"),
    )
    decided = decide(held, namespaces=["sho*"])
    without = decide(held, live(kinds=(*DEFAULT_KINDS, CAMPAIGN)), namespaces=["shop"], include_cluster_scoped="none")

    assert {name for name in actions(decided) if "/shop" not in name} == {
        "customresourcedefinitions.apiextensions.k8s.io/campaigns.shop.example.org",
        "storageclasses.storage.k8s.io/standard",
        "clusterroles.rbac.authorization.k8s.io/reader",
        "clusterrolebindings.rbac.authorization.k8s.io/readers",
    }
    assert {name for name in actions(without) if "/shop" not in name} == set()


def test_kinds_narrow_the_selection() -> None:
    """By plural, by kind, or with the group."""
    names = [set(actions(decide(contents(*SHOP), kinds=[kind]))) for kind in ("secrets", "Secret", "v1/Secret")]

    assert names == [{"namespaces/shop", "secrets/shop/tls"}] * 3
    assert "deployments.apps/shop/web" in actions(decide(contents(*SHOP), kinds=["*.apps"]))


def test_what_controllers_make_again_is_skipped_with_the_reason() -> None:
    """It stands in the plan, so that nobody wonders where it is."""
    deployment = a_deployment()
    replicas = an_object("apps/v1", "ReplicaSet", "web-1", owners=(deployment,))
    steps = {step.kind: step for step in decide(contents(a_namespace(), deployment, replicas)).steps}

    assert (steps["ReplicaSet"].action, steps["ReplicaSet"].reason) == (Action.SKIP, "its Deployment makes it again")


def test_an_owner_that_is_not_restored_is_dropped_with_a_note() -> None:
    """An old uid is never written: the garbage collector would delete the object."""
    owner = a_map("owner")
    decided = decide(contents(a_namespace(), owner, a_map("owned", owners=(owner,))), objects=["v1/ConfigMap/shop/owned"])
    step = next(step for step in decided.steps if step.target.name == "owned")

    assert step.notes == ("its owner ConfigMap owner is not part of this restore: the reference is dropped",)


def test_an_object_whose_owner_was_not_linked_by_an_interrupted_restore_is_linked() -> None:
    """Only what this restore made is touched again."""
    owner = a_map("owner")
    unlinked = a_map("owned")
    unlinked["metadata"]["annotations"] = OURS
    held = contents(a_namespace(), owner, a_map("owned", owners=(owner,)))

    assert actions(decide(held, live(a_namespace(), owner, unlinked)))["configmaps/shop/owned"] is Action.LINK
    assert actions(decide(held, live(a_namespace(), owner, a_map("owned"))))["configmaps/shop/owned"] is Action.KEEP


def test_cron_jobs_come_suspended_on_request() -> None:
    """A second plan of the same request finds nothing to do."""
    cron = an_object("batch/v1", "CronJob", "nightly", spec={"schedule": "@daily", "suspend": False})
    asleep = deepcopy(cron)
    asleep["spec"]["suspend"] = True
    held = contents(a_namespace(), cron)

    assert decide(held, live(a_namespace(), asleep), suspend_cronjobs=True).steps[-1].changes == ()
    assert decide(held, live(a_namespace(), asleep)).steps[-1].changes != ()


TERMINATING = a_namespace(deletionTimestamp="2026-01-01T00:00:00Z")
FORBIDDEN = {
    "a storage class that is not there": (
        {"held": contents(a_namespace(), a_claim(storage_class="fast"))},
        "needs the storage class fast",
    ),
    "no default class": ({"held": contents(a_namespace(), a_claim(storage_class=None)), "cluster": live(classes=())}, "has no default"),
    "a claim for a volume made by hand": ({"held": contents(a_namespace(), a_claim(storage_class=""))}, "made by hand"),
    "a kind that is not served": (
        {"held": contents(a_namespace(), an_object("shop.example.org/v1", "Campaign", "spring"))},
        "shop.example.org/v1 is not served",
    ),
    "a namespace that is going": ({"held": contents(a_namespace(), a_map()), "cluster": live(TERMINATING)}, "is being deleted"),
    "a namespace that nobody makes": ({"held": contents(a_map())}, "is not there, and the point holds no such namespace"),
    "a namespace of the cluster": (
        {"held": contents(a_map(namespace="kube-system")), "cluster": live(a_namespace("kube-system"))},
        "allow_protected",
    ),
    "Becalm's own namespace": ({"held": contents(a_namespace("becalm"), a_map(namespace="becalm"))}, "allow_protected"),
    "an object that is going": (
        {
            "held": contents(a_namespace(), a_map()),
            "cluster": live(a_namespace(), a_map() | {"metadata": {**a_map()["metadata"], "deletionTimestamp": "x"}}),
        },
        "is being deleted",
    ),
    "data without its claim": ({"held": contents(a_namespace(), a_map(), volumes=("shop/data",))}, "but not the claim"),
    "two objects for one place": (
        {"held": contents(a_namespace(), a_map(), a_namespace("bank"), a_map(namespace="bank")), "namespace_mapping": {"bank": "shop"}},
        "2 objects would be restored to this place",
    ),
    "a part of the selection that is not there": (
        {"held": contents(*SHOP), "objects": ["secrets/shop/tls", "secrets/shop/tsl"]},
        "no object is secrets/shop/tsl",
    ),
    "a mapping of nothing": ({"held": contents(*SHOP), "namespace_mapping": {"shpo": "x"}}, "no namespace is shpo"),
}


@pytest.mark.parametrize(("case", "words"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_would_go_wrong_half_way_forbids_the_start(case: dict, words: str) -> None:
    """Every reason is found before anything is written, and names its place and a remedy."""
    case = dict(case)
    decided = decide(case.pop("held"), case.pop("cluster", None), **case)

    assert any(words in str(finding) for finding in decided.blocking)
    assert all(isinstance(finding, Finding) and finding.where and finding.remedy for finding in decided.blocking)
    with pytest.raises(RestoreRefused):
        demand(decided)


def test_a_definition_in_the_plan_serves_its_objects() -> None:
    """What will be served by then is no reason against a restore."""
    decided = decide(contents(a_namespace(), a_definition(), an_object("shop.example.org/v1", "Campaign", "spring")))

    assert decided.blocking == ()


def test_protected_namespaces_open_by_a_flag() -> None:
    """Whoever says so may."""
    decided = decide(contents(a_map(namespace="kube-system")), live(a_namespace("kube-system")), allow_protected=True)

    assert decided.blocking == ()


def test_a_selection_that_matches_nothing_is_refused() -> None:
    """It is an error, not an empty success."""
    with pytest.raises(RestoreRefused, match="matches nothing"):
        decide(contents(*SHOP), namespaces=["bank"])


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"objects": ["Secret"]}, "names no object"),
        ({"objects": ["v1/Secret/a/b/c"]}, "names no object"),
        ({"volumes": ["data"]}, "is not namespace/claim"),
        ({"namespace_mapping": {"a": "x", "b": "x"}}, "mapped to the same one"),
        ({"namespace_mapping": {"a": "A/.."}}, "does not name two namespaces"),
        ({"volumes_only": True, "objects_only": True}, "leave nothing"),
        ({"volumes_only": True, "kinds": ["Secret"]}, "nothing but volumes"),
        ({"conflict": "overwrite"}, "conflict"),
        ({"conflict_by_kind": {"secrets": "perhaps"}}, "conflict_by_kind.secrets"),
        ({"labels": ["app in"]}, "label"),
        ({"registry_mapping": {"docker.io": ""}}, "does not name two"),
        ({"replicas": {"*": -1}}, "fewer replicas than none"),
        ({"patches": [{"patch": [{"op": "addd", "path": "/a"}]}]}, "operation 1 is 'addd'"),
        ({"patches": [{"patch": [{"op": "add", "path": "a", "value": 1}]}]}, "is not a pointer"),
        ({"patches": [{"select": {"labels": "=="}, "patch": [{"op": "remove", "path": "/a"}]}]}, "label"),
        ({"in_place": True, "objects_only": True}, "in_place replaces"),
        ({"namespace": ["shop"]}, "namespace: there is no such field"),
    ],
)
def test_a_request_that_cannot_be_meant_is_an_error_of_its_author(request_: dict, words: str) -> None:
    """Every mistake is named in plain words, without the library's own."""
    with pytest.raises(UsageError, match=words) as caught:
        RestoreRequest.read({"policy": "shop", **request_})

    assert "pydantic" not in str(caught.value)


@given(st.sets(st.sampled_from(range(5))), st.sampled_from(["skip", "fail"]))
def test_every_selected_object_is_in_the_plan_once_and_what_is_there_is_kept(present: set[int], conflict: str) -> None:
    """For any part of the application that is there already, the rest is created and nothing else is touched."""
    cluster = live(*(SHOP[number] for number in present | {0}))
    decided = decide(contents(*SHOP, volumes=("shop/data",)), cluster, conflict=conflict)

    assert len(decided.steps) == len(SHOP)
    assert {step.target for step in decided.steps_to(Action.KEEP)} == set(cluster.objects)


def test_the_plan_looks_up_every_place_it_writes_to() -> None:
    """No object is created without having looked whether it is there."""
    request = RestoreRequest.read({"policy": "shop", "namespace_mapping": {"shop": "shop2"}})
    held = contents(*SHOP)

    assert {ref for _, ref in targets(request, held)} == {step.target for step in plan(request, POINT, held, live()).steps}


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)


@given(JSON, JSON)
def test_an_object_that_is_not_what_its_path_says_goes_no_further(manifest: object, name: object) -> None:
    """A hostile point can name no other namespace, kind or name than the folder that it stands in."""
    ref = ResourceRef(group="", resource="configmaps", namespace="shop", name="settings")
    elsewhere = a_map()
    elsewhere["metadata"]["namespace"] = name

    assert mismatch(ref, a_map()) == ""
    assert mismatch(ref, manifest)
    assert name == "shop" or mismatch(ref, elsewhere)
