"""The sample application of the demo: a shop with a web front, a database that is written to, and one of everything that matters to a backup."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from becalm.sandbox.certificates import self_signed

if TYPE_CHECKING:
    from becalm.model import Manifest

LEDGER = ("python", "-m", "becalm.sandbox.samples.ledgerdb")
DATA = "/data"
FREEZE = (*LEDGER, "freeze", "--data", DATA)
THAW = (*LEDGER, "thaw", "--data", DATA)
CHECK = (*LEDGER, "check", "--data", DATA)
"""What a policy's hooks and a drill's checks run in the pod of `app=orders-db`, container `db`."""

CAMPAIGN_GROUP = "shop.becalm.dev"
IMAGE = "becalm.dev/becalm:1"
"""Any image with Python and Becalm; the sandbox runs the commands and needs none."""


def manifests(namespace: str, *, image: str = IMAGE, storage_class: str = "", host: str = "shop.example.org") -> list[Manifest]:
    """Return the shop, in an order in which it can be created; the definition of its campaigns first."""
    return [
        campaign_definition(),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"becalm.dev/sample": "shop"}}},
        *(
            _placed(manifest, namespace)
            for manifest in (*_access(), *_settings(host), *_database(image, storage_class), *_front(image), *_rest(image))
        ),
    ]


def campaign_definition() -> Manifest:
    """Return the definition of the shop's own kind."""
    spec = {
        "type": "object",
        "required": ["discountPercent"],
        "properties": {
            "discountPercent": {"type": "integer", "minimum": 1, "maximum": 90},
            "products": {"type": "array", "items": {"type": "string"}},
        },
    }
    status = {"type": "object", "properties": {"phase": {"type": "string"}}}
    schema = {"type": "object", "properties": {"spec": spec, "status": status}, "required": ["spec"]}
    version = {"name": "v1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "campaigns", "singular": "campaign", "kind": "Campaign", "listKind": "CampaignList"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"campaigns.{CAMPAIGN_GROUP}"},
        "spec": {"group": CAMPAIGN_GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _placed(manifest: Manifest, namespace: str) -> Manifest:
    metadata = {**manifest["metadata"], "namespace": namespace}
    for subject in manifest.get("subjects") or ():
        subject["namespace"] = namespace
    return {**manifest, "metadata": metadata}


def _access() -> list[Manifest]:
    rules = [{"apiGroups": [CAMPAIGN_GROUP], "resources": ["campaigns"], "verbs": ["get", "list", "watch"]}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "shop"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "shop"}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "shop"}, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "shop"},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", "name": "shop"}],
        },
    ]


def _settings(host: str) -> list[Manifest]:
    certificate, key = self_signed(host)
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "shop"},
            "data": {"title": "Becalm's shop", "greeting": "Fair winds."},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "orders-db"},
            "type": "Opaque",
            "data": {"user": _encoded(b"orders"), "password": _encoded(b"not-a-secret-in-a-sample")},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "shop-tls"},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": _encoded(certificate), "tls.key": _encoded(key)},
        },
    ]


def _database(image: str, storage_class: str) -> list[Manifest]:
    labels = {"app": "orders-db"}
    reference = {"secretKeyRef": {"name": "orders-db", "key": "user"}}
    container = {
        "name": "db",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [*LEDGER, "serve", "--data", DATA],
        "env": [{"name": "ORDERS_USER", "valueFrom": reference}],
        "readinessProbe": {"exec": {"command": ["sh", "-c", f"test -s {DATA}/index.json"]}, "periodSeconds": 10},
        "volumeMounts": [{"name": "data", "mountPath": DATA}],
    }
    claim: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    if storage_class:
        claim["storageClassName"] = storage_class
    spec = {"serviceAccountName": "shop", "terminationGracePeriodSeconds": 5, "containers": [container]}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "orders-db", "labels": labels},
            "spec": {"clusterIP": "None", "selector": labels, "ports": [{"name": "ledger", "port": 7000}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "orders-db", "labels": labels},
            "spec": {
                "serviceName": "orders-db",
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
            },
        },
    ]


def _front(image: str) -> list[Manifest]:
    labels = {"app": "web"}
    container = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "becalm.sandbox.samples.front", "--settings", "/etc/shop", "--ready", "/run/shop/ready"],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"exec": {"command": ["cat", "/run/shop/ready"]}, "periodSeconds": 10},
        "volumeMounts": [
            {"name": "settings", "mountPath": "/etc/shop"},
            {"name": "certificate", "mountPath": "/etc/tls", "readOnly": True},
            {"name": "run", "mountPath": "/run/shop"},
        ],
    }
    volumes = [
        {"name": "settings", "configMap": {"name": "shop"}},
        {"name": "certificate", "secret": {"secretName": "shop-tls"}},
        {"name": "run", "emptyDir": {}},
    ]
    spec = {"serviceAccountName": "shop", "terminationGracePeriodSeconds": 5, "containers": [container], "volumes": volumes}
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "labels": labels},
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "labels": labels},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
        },
    ]


def _rest(image: str) -> list[Manifest]:
    report = {"name": "report", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", "date"]}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    processor = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    return [
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "nightly-report"},
            "spec": {
                "schedule": "15 3 * * *",
                "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [report]}}}},
            },
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "orders-db"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "orders-db"}},
                "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}],
            },
        },
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3, "metrics": [processor]},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "orders-db"},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "orders-db"}}},
        },
        {
            "apiVersion": f"{CAMPAIGN_GROUP}/v1",
            "kind": "Campaign",
            "metadata": {"name": "spring"},
            "spec": {"discountPercent": 15, "products": ["rope", "sail", "lantern"]},
        },
    ]


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
