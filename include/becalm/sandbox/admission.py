"""What the API server does to a new object by what else is there: its namespace, its account, its class, its address."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from becalm.sandbox import kinds
from becalm.sandbox.answers import Cause, forbidden, invalid, not_found, wrong

if TYPE_CHECKING:
    from becalm.model import Manifest
    from becalm.sandbox.kinds import Resource
    from becalm.sandbox.store import Store

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"

_FIRST_STATUS: dict[str, Manifest] = {
    "/pods": {"phase": "Pending", "qosClass": "BestEffort"},
    "/namespaces": {"phase": "Active"},
    "/persistentvolumeclaims": {"phase": "Pending"},
    "/persistentvolumes": {"phase": "Pending"},
    "/services": {"loadBalancer": {}},
}


def check_namespace(store: Store, resource: Resource, namespace: str, name: str) -> None:
    """Refuse new objects where the namespace is not there or is going. Raises: ApiError (404, 403)."""
    if not resource.namespaced:
        return
    found = store.get(kinds.NAMESPACES.bucket, ("", namespace))
    if found is None:
        raise not_found(kinds.NAMESPACES, namespace)
    if found["metadata"].get("deletionTimestamp"):
        cause = Cause(field="metadata.namespace", reason="NamespaceTerminating", message=f"namespace {namespace} is being terminated")
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        raise forbidden(resource, name, why, causes=[cause])


def encode_strings(manifest: Manifest) -> None:
    """Turn a Secret's stringData into data."""
    for key, value in (manifest.pop("stringData", None) or {}).items():
        manifest.setdefault("data", {})
        manifest["data"][key] = base64.b64encode(str(value).encode()).decode()


def first_status(resource: Resource, manifest: Manifest) -> None:
    """Begin the status of a new object; what the author wrote there does not count."""
    if not resource.status:
        return
    manifest.pop("status", None)
    if not resource.custom:
        manifest["status"] = dict(_FIRST_STATUS.get(resource.bucket, {}))


def admit(store: Store, resource: Resource, manifest: Manifest) -> None:
    """Fill in what depends on other objects, in place. Raises: ApiError."""
    match resource.bucket:
        case "/namespaces":
            manifest["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = manifest["metadata"]["name"]
            manifest["spec"] = {"finalizers": ["kubernetes"]}
        case "/pods":
            _check_account(store, resource, manifest)
        case "/persistentvolumeclaims":
            finalizers = manifest["metadata"].setdefault("finalizers", [])
            if "kubernetes.io/pvc-protection" not in finalizers:
                finalizers.append("kubernetes.io/pvc-protection")
            if manifest["spec"].get("storageClassName") is None:
                _default_class(store, manifest)
        case "/persistentvolumes":
            finalizers = manifest["metadata"].setdefault("finalizers", [])
            if "kubernetes.io/pv-protection" not in finalizers:
                finalizers.append("kubernetes.io/pv-protection")
        case "/services":
            _give_address(store, manifest)
        case "apiextensions.k8s.io/customresourcedefinitions":
            manifest["metadata"].setdefault("finalizers", []).append("customresourcecleanup.apiextensions.k8s.io")


def _check_account(store: Store, resource: Resource, manifest: Manifest) -> None:
    namespace, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
    account = manifest["spec"]["serviceAccountName"]
    if store.get(kinds.SERVICE_ACCOUNTS.bucket, (namespace, account)) is None:
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise forbidden(resource, name, why)


def _default_class(store: Store, manifest: Manifest) -> None:
    for storage_class in store.all(kinds.STORAGE_CLASSES.bucket):
        if (storage_class["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true":
            manifest["spec"]["storageClassName"] = storage_class["metadata"]["name"]
            return


def _give_address(store: Store, manifest: Manifest) -> None:
    spec = manifest["spec"]
    if spec["type"] == "ExternalName" or spec.get("clusterIP") == "None":
        if spec.get("clusterIP") == "None":
            spec["clusterIPs"] = ["None"]
        return
    services = store.all(kinds.SERVICES.bucket)
    taken = {service["spec"].get("clusterIP") for service in services}
    if spec.get("clusterIP"):
        if spec["clusterIP"] in taken:
            text = f"failed to allocate IP {spec['clusterIP']}: provided IP is already allocated"
            raise invalid("", "Service", manifest["metadata"]["name"], [wrong("spec.clusterIPs", [spec["clusterIP"]], text)])
    else:
        spec["clusterIP"] = next(
            address for number in range(10, 65000) if (address := f"10.96.{number // 250}.{number % 250 + 1}") not in taken
        )
    spec["clusterIPs"] = [spec["clusterIP"]]
    if spec["type"] in ("NodePort", "LoadBalancer"):
        used = {port.get("nodePort") for service in services for port in service["spec"].get("ports") or ()}
        for port in spec["ports"]:
            if not port.get("nodePort"):
                port["nodePort"] = next(number for number in range(30000, 32768) if number not in used)
                used.add(port["nodePort"])
