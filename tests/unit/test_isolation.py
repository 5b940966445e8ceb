"""What an object loses on its way into a drill, what stays out, and when something is ready."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.kube.base import Kind
from becalm.kube.isolation import is_custom, isolate, kept_out
from becalm.kube.readiness import not_ready
from becalm.testing.manifests import an_object


def a_kind(resource: str, group: str = "", *, namespaced: bool = True) -> Kind:
    return Kind(group=group, version="v1", resource=resource, kind="Any", namespaced=namespaced)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (a_kind("ingresses", "networking.k8s.io"), {}),
        (a_kind("networkpolicies", "networking.k8s.io"), {}),
        (a_kind("endpoints"), {}),
        (a_kind("endpointslices", "discovery.k8s.io"), {}),
        (a_kind("services"), {"type": "ExternalName"}),
        (a_kind("httproutes", "gateway.networking.k8s.io"), {}),
        (a_kind("clusterroles", "rbac.authorization.k8s.io", namespaced=False), {}),
        (a_kind("validatingwebhookconfigurations", "admissionregistration.k8s.io", namespaced=False), {}),
    ],
)
def test_what_leads_out_of_a_drill_or_into_it_stays_out(kind: Kind, spec: dict[str, Any]) -> None:
    """Each with its reason."""
    assert kept_out(kind, {"spec": spec})


@pytest.mark.parametrize("resource", ["secrets", "configmaps", "persistentvolumeclaims", "serviceaccounts", "pods", "services"])
def test_what_an_application_is_made_of_comes_along(resource: str) -> None:
    """Nothing keeps it out, and nobody takes it for a custom resource."""
    assert (kept_out(a_kind(resource), {}), is_custom(a_kind(resource))) == ("", False)


def test_custom_resources_are_told_by_their_group() -> None:
    """The groups of the API server are known; all others belong to somebody's operator."""
    assert is_custom(a_kind("certificates", "cert-manager.io"))
    assert is_custom(a_kind("clusters", "cluster.x-k8s.io"))
    assert not is_custom(a_kind("roles", "rbac.authorization.k8s.io"))


def test_a_pod_leaves_the_nodes_network_and_ports() -> None:
    """There no network policy holds it, and the live pod has the ports. Its own ports stay."""
    container = {"name": "main", "ports": [{"containerPort": 80, "hostPort": 80}]}
    spec = {"hostNetwork": True, "containers": [container], "initContainers": [deepcopy(container)]}
    made = isolate(an_object("apps/v1", "Deployment", "web", spec={"template": {"spec": spec}}))["spec"]["template"]["spec"]

    assert "hostNetwork" not in made
    assert made["containers"][0]["ports"] == made["initContainers"][0]["ports"] == [{"containerPort": 80}]


@given(
    kind=st.sampled_from(["Service", "CronJob", "Job", "Deployment", "Pod", "ConfigMap"]),
    spec=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "ports", "template", "spec", "x"]), inner, max_size=4)
        ),
        max_leaves=12,
    ),
)
def test_isolating_twice_is_isolating_once_whatever_an_object_says(kind: str, spec: Any) -> None:
    """A hostile object is no error."""
    version = {"CronJob": "batch/v1", "Job": "batch/v1", "Deployment": "apps/v1"}.get(kind, "v1")
    once = isolate({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, "spec": spec})

    assert isolate(deepcopy(once)) == once


READY = {"conditions": [{"type": "Ready", "status": "True"}], "phase": "Running"}


@pytest.mark.parametrize(
    ("manifest", "waits"),
    [
        (an_object("apps/v1", "Deployment", "a", spec={"replicas": 2}, status={"availableReplicas": 2, "updatedReplicas": 2}), ""),
        (an_object("apps/v1", "Deployment", "a", spec={"replicas": 2}, status={"availableReplicas": 1}), "1 of 2 pods are ready"),
        (
            an_object("apps/v1", "Deployment", "a", spec={"replicas": 1}, status={"availableReplicas": 1}),
            "0 of 1 pods are as they should be",
        ),
        (an_object("apps/v1", "Deployment", "a", spec={"replicas": 0}), ""),
        (an_object("apps/v1", "StatefulSet", "a", spec={}), "0 of 1 pods are ready"),
        (
            an_object(
                "apps/v1", "StatefulSet", "a", metadata={"generation": 3}, spec={}, status={"readyReplicas": 1, "observedGeneration": 2}
            ),
            "its controller has not looked at it yet",
        ),
        (an_object("apps/v1", "DaemonSet", "a", status={"desiredNumberScheduled": 3, "numberReady": 1}), "1 of 3 pods are ready"),
        (an_object("v1", "Pod", "a", status=READY), ""),
        (an_object("v1", "Pod", "a", status={"phase": "Succeeded"}), ""),
        (
            an_object(
                "v1",
                "Pod",
                "a",
                status={"phase": "Pending", "containerStatuses": [{"name": "db", "state": {"waiting": {"reason": "ErrImagePull"}}}]},
            ),
            "container db: ErrImagePull",
        ),
        (an_object("v1", "PersistentVolumeClaim", "a", status={"phase": "Pending"}), "it is Pending"),
        (an_object("v1", "ConfigMap", "a"), ""),
    ],
)
def test_what_something_waits_for(manifest: dict[str, Any], waits: str) -> None:
    """In words; nothing for what is ready, or has no readiness of its own."""
    assert not_ready(manifest) == waits
