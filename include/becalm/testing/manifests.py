"""Small whole objects for tests, as a server gives them: with uids, versions and status."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from becalm.model import Manifest


def an_object(
    api_version: str, kind: str, name: str, *, namespace: str | None = "shop", owners: tuple[Manifest, ...] = (), **more: Any
) -> Manifest:
    """Return an object as a server gives it. Its uid follows from what it is; `metadata` in `more` is merged."""
    uid = sha256(f"{api_version} {kind} {namespace} {name}".encode()).hexdigest()[:12]
    metadata: Manifest = {
        "name": name,
        "uid": uid,
        "resourceVersion": "7",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **more.pop("metadata", {}),
    }
    if namespace is not None:
        metadata["namespace"] = namespace
    if owners:
        metadata["ownerReferences"] = [owned_by_object(owner) for owner in owners]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


def owned_by_object(owner: Manifest) -> Manifest:
    """Return the reference by which an object names its owner."""
    metadata = owner["metadata"]
    return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"], "uid": metadata["uid"], "controller": True}


def a_namespace(name: str = "shop", **metadata: Any) -> Manifest:
    """Return a namespace."""
    labels = {"kubernetes.io/metadata.name": name}
    return an_object("v1", "Namespace", name, namespace=None, metadata={"labels": labels, **metadata}, status={"phase": "Active"})


def a_map(name: str = "settings", *, namespace: str = "shop", owners: tuple[Manifest, ...] = (), **data: str) -> Manifest:
    """Return a ConfigMap."""
    return an_object("v1", "ConfigMap", name, namespace=namespace, owners=owners, data=data)


def a_secret(name: str = "tls", *, namespace: str = "shop", **data: str) -> Manifest:
    """Return a Secret."""
    return an_object("v1", "Secret", name, namespace=namespace, type="Opaque", data=data)


def a_claim(name: str = "data", *, namespace: str = "shop", storage_class: str | None = "standard") -> Manifest:
    """Return a claim that is bound."""
    spec: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": f"pvc-{name}"}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    marks = {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}, "finalizers": ["kubernetes.io/pvc-protection"]}
    return an_object("v1", "PersistentVolumeClaim", name, namespace=namespace, metadata=marks, spec=spec, status={"phase": "Bound"})


def a_deployment(name: str = "web", *, namespace: str = "shop", image: str = "web:1") -> Manifest:
    """Return a Deployment that runs."""
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": image}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template}
    revision = {"annotations": {"deployment.kubernetes.io/revision": "4"}}
    return an_object("apps/v1", "Deployment", name, namespace=namespace, metadata=revision, spec=spec, status={"readyReplicas": 2})


def a_storage_class(name: str = "standard", *, default: bool = True) -> Manifest:
    """Return a storage class."""
    marks = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}} if default else {}
    return an_object("storage.k8s.io/v1", "StorageClass", name, namespace=None, metadata=marks, provisioner="disk.example.org")


def a_definition(group: str = "shop.example.org", plural: str = "campaigns", kind: str = "Campaign") -> Manifest:
    """Return the definition of a custom resource."""
    spec = {
        "group": group,
        "names": {"plural": plural, "kind": kind},
        "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True}],
    }
    return an_object("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"{plural}.{group}", namespace=None, spec=spec)
