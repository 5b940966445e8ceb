"""The verbs of the sandbox's API, without HTTP and without controllers."""

from __future__ import annotations

from typing import Any

import pytest

from becalm.sandbox import kinds
from becalm.sandbox.answers import ApiError
from becalm.sandbox.api import MERGE_PATCH, Api, Write
from becalm.sandbox.applications import manifests
from becalm.sandbox.crds import resources
from becalm.sandbox.lists import Query, page
from becalm.sandbox.registry import Registry
from becalm.sandbox.store import Store

ME = Write(manager="me")


@pytest.fixture
def api() -> Api:
    """An API with one namespace and its account."""
    api = Api(Store(), Registry())
    api.create(kinds.NAMESPACES, "", {"metadata": {"name": "shop"}})
    api.create(kinds.SERVICE_ACCOUNTS, "shop", {"metadata": {"name": "default"}})
    return api


def a_config(name: str = "a", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "data": {"k": "1"}}


def a_pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}}


def test_a_new_object_has_an_identity_and_a_revision(api: Api) -> None:
    """And its namespace, wherever it was named."""
    made = api.create(kinds.CONFIG_MAPS, "shop", a_config())

    assert made["metadata"]["uid"]
    assert made["metadata"]["resourceVersion"] == str(api.store.revision)
    assert made["metadata"]["namespace"] == "shop"


def test_a_dry_run_answers_and_writes_nothing(api: Api) -> None:
    """Of a creation and of a change."""
    before = api.store.revision
    made = api.create(kinds.CONFIG_MAPS, "shop", a_config(), Write(dry_run=True))

    assert made["metadata"]["uid"]
    assert "resourceVersion" not in made["metadata"]
    assert api.store.revision == before


def test_an_update_that_changes_nothing_makes_no_revision(api: Api) -> None:
    """A second execution of the same is no change."""
    made = api.create(kinds.CONFIG_MAPS, "shop", a_config())
    again, _ = api.patch(kinds.CONFIG_MAPS, ("shop", "a"), {"data": {"k": "1"}}, MERGE_PATCH, ME)

    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_a_stale_update_is_a_conflict(api: Api) -> None:
    """By resourceVersion and by uid."""
    made = api.create(kinds.CONFIG_MAPS, "shop", a_config())
    api.patch(kinds.CONFIG_MAPS, ("shop", "a"), {"data": {"k": "2"}}, MERGE_PATCH, ME)

    with pytest.raises(ApiError) as stale:
        api.update(kinds.CONFIG_MAPS, ("shop", "a"), made, ME)
    with pytest.raises(ApiError) as other:
        api.delete(kinds.CONFIG_MAPS, ("shop", "a"), {"preconditions": {"uid": "another"}})
    assert (stale.value.reason, other.value.reason) == ("Conflict", "Conflict")


def test_a_finalizer_keeps_an_object_until_it_is_gone(api: Api) -> None:
    """With a deletionTimestamp meanwhile."""
    api.create(kinds.CONFIG_MAPS, "shop", a_config(finalizers=["example.org/hold"]))
    held, gone = api.delete(kinds.CONFIG_MAPS, ("shop", "a"))
    api.patch(kinds.CONFIG_MAPS, ("shop", "a"), {"metadata": {"finalizers": None}}, MERGE_PATCH, ME)

    assert held["metadata"]["deletionTimestamp"]
    assert not gone
    assert api.store.get("/configmaps", ("shop", "a")) is None


def test_generation_counts_changes_of_the_spec_and_not_of_the_status(api: Api) -> None:
    """Status has a subresource of its own, and an update does not touch it."""
    claim = {"metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": a_template()}}
    api.create(kinds.DEPLOYMENTS, "shop", claim)
    place = ("shop", "d")
    by_status, _ = api.patch(kinds.DEPLOYMENTS, place, {"status": {"replicas": 3}}, MERGE_PATCH, Write(subresource="status"))
    by_main, _ = api.patch(kinds.DEPLOYMENTS, place, {"status": {"replicas": 9}, "spec": {"replicas": 2}}, MERGE_PATCH, ME)

    assert (by_status["metadata"]["generation"], by_status["status"]) == (1, {"replicas": 3})
    assert (by_main["metadata"]["generation"], by_main["status"], by_main["spec"]["replicas"]) == (2, {"replicas": 3}, 2)


def a_template() -> dict[str, Any]:
    return {"metadata": {"labels": {"a": "b"}}, "spec": a_pod()["spec"]}


@pytest.mark.parametrize(
    ("namespace", "manifest", "code", "says"),
    [
        ("shop", {"metadata": {"name": "A_b"}}, 422, "RFC 1123"),
        ("shop", {"metadata": {}}, 422, "name or generateName is required"),
        ("shop", {"metadata": {"name": "a", "labels": {"x": "a b"}}}, 422, "a valid label"),
        ("shop", {"metadata": {"name": "a", "namespace": "other"}}, 400, "does not match the namespace"),
        ("shop", {"kind": "Secret", "metadata": {"name": "a"}}, 400, "cannot be handled as a ConfigMap"),
        ("absent", {"metadata": {"name": "a"}}, 404, 'namespaces "absent" not found'),
    ],
)
def test_what_a_real_server_refuses_is_refused(api: Api, namespace: str, manifest: dict[str, Any], code: int, says: str) -> None:
    """With its code, and its words where Becalm reads them."""
    with pytest.raises(ApiError, match=says) as refused:
        api.create(kinds.CONFIG_MAPS, namespace, manifest)

    assert refused.value.code == code


def test_nothing_new_enters_a_namespace_that_is_going(api: Api) -> None:
    """Forbidden, with the cause that tells it from other prohibitions."""
    api.delete(kinds.NAMESPACES, ("", "shop"))

    with pytest.raises(ApiError) as refused:
        api.create(kinds.CONFIG_MAPS, "shop", a_config())
    assert refused.value.status()["details"]["causes"][0]["reason"] == "NamespaceTerminating"


def test_a_pod_needs_its_account(api: Api) -> None:
    """Which decides the order of a restore."""
    with pytest.raises(ApiError, match='serviceaccount "absent" not found') as refused:
        api.create(kinds.PODS, "shop", a_pod(serviceAccountName="absent"))

    assert refused.value.code == 403


def test_pages_are_of_one_revision(api: Api) -> None:
    """What is written between two pages is not seen, and what is removed is."""
    for name in ("a", "b", "c"):
        api.create(kinds.CONFIG_MAPS, "shop", a_config(name))
    query = Query.read(kinds.CONFIG_MAPS, "shop", {})
    first = page(api.store, query, {"limit": "2"})
    api.delete(kinds.CONFIG_MAPS, ("shop", "c"))
    api.create(kinds.CONFIG_MAPS, "shop", a_config("d"))
    second = page(api.store, query, {"limit": "2", "continue": first.token})

    assert [item["metadata"]["name"] for item in [*first.items, *second.items]] == ["a", "b", "c"]
    assert (second.revision, second.token) == (first.revision, "")
    api.store.compact()
    with pytest.raises(ApiError) as expired:
        page(api.store, query, {"limit": "2", "continue": first.token})
    assert expired.value.code == 410


def test_a_custom_resource_is_pruned_defaulted_and_checked(api: Api) -> None:
    """By its schema."""
    (definition, *_) = manifests("shop")
    (campaigns,) = resources(api.create(kinds.CRDS, "", definition))
    api.registry.add(campaigns)
    made = api.create(campaigns, "shop", {"metadata": {"name": "spring"}, "spec": {"discountPercent": 10, "unknown": 1}})

    assert made["spec"] == {"discountPercent": 10}
    with pytest.raises(ApiError, match="less than or equal to 90"):
        api.create(campaigns, "shop", {"metadata": {"name": "mad"}, "spec": {"discountPercent": 95}})
    with pytest.raises(ApiError, match=r"spec\.discountPercent: Required value"):
        api.create(campaigns, "shop", {"metadata": {"name": "dull"}, "spec": {}})


def test_the_sample_application_is_accepted_in_its_order(api: Api) -> None:
    """Nothing in it refers to what comes later and is needed before."""
    for manifest in manifests("sample"):
        resource = api.registry.of_kind(manifest["apiVersion"], manifest["kind"])
        assert resource is not None
        made = api.create(resource, manifest["metadata"].get("namespace", ""), manifest)
        if resource is kinds.CRDS:
            api.registry.add(resources(made)[0])

    assert len(api.store.all("/secrets", namespace="sample")) == 2
