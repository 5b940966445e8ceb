"""One object of a hundred kinds: those that every cluster serves, and custom ones with defaults, subresources and several versions."""

from __future__ import annotations

from typing import Any

from tests.e2e.applications import BUSYBOX

Manifest = dict[str, Any]

CUSTOM = 75
RBAC = "rbac.authorization.k8s.io"


def an_object(api_version: str, kind: str, name: str, **more: Any) -> Manifest:
    """Return an object as an author writes it."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **more.pop("metadata", {})}, **more}


def definition(group: str, number: int) -> Manifest:
    """Return a custom kind: every second with defaults, every third with subresources, every fifth in two versions."""
    settings: Manifest = {
        "type": "object",
        "properties": {"level": {"type": "integer"}, "words": {"type": "array", "items": {"type": "string"}}},
    }
    if number % 2:
        settings["properties"]["mode"] = {"type": "string", "default": "calm"}
        settings["properties"]["limits"] = {"type": "object", "default": {"most": 3}, "properties": {"most": {"type": "integer"}}}
    status = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": settings, "status": status}}}
    subresources: Manifest = {"subresources": {"status": {}}} if number % 3 == 0 else {}
    names = ["v1", "v1beta1"] if number % 5 == 0 else ["v1"]
    versions = [{"name": name, "served": True, "storage": name == "v1", "schema": schema, **subresources} for name in names]
    words = {"plural": f"sorts{number:02d}", "singular": f"sort{number:02d}", "kind": f"Sort{number:02d}"}
    spec = {"group": group, "scope": "Namespaced", "names": words, "versions": versions}
    return an_object("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"sorts{number:02d}.{group}", spec=spec)


def custom(group: str, number: int) -> Manifest:
    """Return one object of a custom kind."""
    return an_object(f"{group}/v1", f"Sort{number:02d}", f"one-{number:02d}", spec={"level": number, "words": ["a", "b"]})


def outside(prefix: str) -> list[Manifest]:
    """Return objects that belong to no namespace, and that those within one refer to."""
    rules = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    return [
        an_object(f"{RBAC}/v1", "ClusterRole", f"{prefix}-reader", rules=rules),
        an_object("scheduling.k8s.io/v1", "PriorityClass", f"{prefix}-high", value=1000, globalDefault=False),
        an_object("networking.k8s.io/v1", "IngressClass", f"{prefix}-web", spec={"controller": "example.org/web"}),
    ]


def within(prefix: str) -> list[Manifest]:
    """Return objects of the kinds that every cluster has; none of them needs more than a shell."""
    labels = {"app": "web"}
    main = {"name": "main", "image": BUSYBOX, "command": ["sleep", "1000000"], "resources": {"requests": {"cpu": "1m", "memory": "4Mi"}}}
    pod = {"containers": [main], "terminationGracePeriodSeconds": 0, "priorityClassName": f"{prefix}-high"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    ending = {"metadata": {"labels": {"app": "job"}}, "spec": {**pod, "restartPolicy": "Never"}}
    selector = {"matchLabels": labels}
    port = {"name": "web", "port": 80}
    elsewhere = {**template, "spec": {**pod, "nodeSelector": {"nowhere": "yes"}}}
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    ingress = {"path": "/", "pathType": "Prefix", "backend": backend}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    subject = {"kind": "ServiceAccount", "name": "web"}
    return [
        an_object("v1", "ConfigMap", "settings", data={"level": "1"}, binaryData={"raw": "AAEC"}),
        an_object("v1", "ConfigMap", "fixed", data={"a": "b"}, immutable=True),
        an_object("v1", "Secret", "tls", data={"key": "YQ=="}, type="example.org/kind"),
        an_object("v1", "ServiceAccount", "web", automountServiceAccountToken=False, imagePullSecrets=[{"name": "tls"}]),
        an_object("v1", "Service", "web", spec={"type": "NodePort", "selector": labels, "ports": [port]}),
        an_object("v1", "Service", "peers", spec={"clusterIP": "None", "selector": labels, "ports": [port]}),
        an_object("v1", "Service", "outside", spec={"ports": [port]}),
        an_object("v1", "Service", "elsewhere", spec={"type": "ExternalName", "externalName": "example.org"}),
        an_object("v1", "Endpoints", "outside", subsets=[{"addresses": [{"ip": "192.0.2.1"}], "ports": [port]}]),
        an_object("v1", "LimitRange", "limits", spec={"limits": [{"type": "Container", "default": {"cpu": "1"}}]}),
        an_object("v1", "ResourceQuota", "quota", spec={"hard": {"configmaps": "500"}}),
        an_object("v1", "PodTemplate", "template", template=template),
        an_object("v1", "ReplicationController", "old", spec={"replicas": 0, "selector": {"app": "old"}, "template": {
            "metadata": {"labels": {"app": "old"}}, "spec": pod}}),
        an_object("v1", "Pod", "alone", metadata={"labels": {"app": "alone"}}, spec=pod),
        an_object("apps/v1", "Deployment", "web", spec={"replicas": 0, "selector": selector, "template": template}),
        an_object("apps/v1", "StatefulSet", "db", spec={"replicas": 0, "serviceName": "peers", "selector": selector, "template": template}),
        an_object("apps/v1", "DaemonSet", "agent", spec={"selector": selector, "template": elsewhere}),
        an_object("apps/v1", "ReplicaSet", "bare", spec={"replicas": 0, "selector": selector, "template": template}),
        an_object("batch/v1", "Job", "later", spec={"suspend": True, "template": ending}),
        an_object("batch/v1", "CronJob", "nightly", spec={"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": ending}}}),
        an_object("autoscaling/v2", "HorizontalPodAutoscaler", "web", spec={"maxReplicas": 3, "scaleTargetRef": target}),
        an_object("networking.k8s.io/v1", "Ingress", "web", spec={
            "ingressClassName": f"{prefix}-web", "rules": [{"host": "web.example.org", "http": {"paths": [ingress]}}]}),
        an_object("networking.k8s.io/v1", "NetworkPolicy", "web", spec={"podSelector": selector, "policyTypes": ["Ingress"]}),
        an_object("discovery.k8s.io/v1", "EndpointSlice", "by-hand", metadata={"labels": {"kubernetes.io/service-name": "nobody"}},
                  addressType="IPv4", endpoints=[{"addresses": ["192.0.2.7"]}], ports=[port]),
        an_object(f"{RBAC}/v1", "Role", "web", rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]),
        an_object(f"{RBAC}/v1", "RoleBinding", "web", roleRef={"apiGroup": RBAC, "kind": "Role", "name": "web"}, subjects=[subject]),
        an_object(f"{RBAC}/v1", "RoleBinding", "reader", subjects=[subject],
                  roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": f"{prefix}-reader"}),
        an_object("policy/v1", "PodDisruptionBudget", "web", spec={"minAvailable": 1, "selector": selector}),
    ]  # fmt: skip
