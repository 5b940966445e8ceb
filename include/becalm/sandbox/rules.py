"""What the API server refuses: names, labels, and the fields without which an object means nothing. Pure."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import orjson

from becalm.sandbox.answers import Cause, may_not, required, wrong
from becalm.sandbox.selectors import label_selector, labels_match

if TYPE_CHECKING:
    from collections.abc import Callable

    from becalm.model import Manifest
    from becalm.sandbox.kinds import Resource

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an "
    f"alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric "
    f"character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_VALUE = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    f"alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '{_VALUE}')"
)
_KEY = rf"({_SUBDOMAIN}/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"

_LABEL_NAMES = frozenset({"/namespaces", "/services"})
_FREE_NAMES = frozenset(f"rbac.authorization.k8s.io/{name}" for name in ("roles", "rolebindings", "clusterroles", "clusterrolebindings"))
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_ANNOTATIONS_LIMIT = 256 * 1024


def generated(prefix: str) -> str:
    """Return a name from a prefix (metadata.generateName)."""
    return prefix[:58] + "".join(secrets.choice(_SUFFIX) for _ in range(5))


def metadata_causes(resource: Resource, metadata: Manifest) -> list[Cause]:
    """Say what is wrong with an object's metadata."""
    name = metadata.get("name") or ""
    if not name:
        return [required("metadata.name", "name or generateName is required")]
    causes = _name_causes(resource, name)
    for key, value in (metadata.get("labels") or {}).items():
        if not re.fullmatch(_KEY, key) or len(key.rpartition("/")[2]) > 63:
            causes.append(wrong("metadata.labels", key, "name part must consist of alphanumeric characters, '-', '_' or '.'"))
        if not isinstance(value, str) or not re.fullmatch(_VALUE, value):
            causes.append(wrong("metadata.labels", value, _VALUE_TEXT))
        elif len(value) > 63:
            causes.append(wrong("metadata.labels", value, "must be no more than 63 bytes"))
    annotations = metadata.get("annotations") or {}
    if sum(len(str(key)) + len(str(value)) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        causes.append(
            Cause(field="metadata.annotations", reason="FieldValueTooLong", message="Too long: may not be more than 262144 bytes")
        )
    for reference in metadata.get("ownerReferences") or ():
        causes += [required(f"metadata.ownerReferences.{key}") for key in ("apiVersion", "kind", "name", "uid") if not reference.get(key)]
    return causes


def _name_causes(resource: Resource, name: str) -> list[Cause]:
    if resource.bucket in _FREE_NAMES:
        return [wrong("metadata.name", name, "may not contain '/' or '%'")] if "/" in name or "%" in name or name in (".", "..") else []
    if resource.bucket in _LABEL_NAMES:
        if len(name) > 63:
            return [wrong("metadata.name", name, "must be no more than 63 bytes")]
        return [] if re.fullmatch(_LABEL, name) else [wrong("metadata.name", name, _LABEL_TEXT)]
    if len(name) > 253:
        return [wrong("metadata.name", name, "must be no more than 253 bytes")]
    return [] if re.fullmatch(_SUBDOMAIN, name) else [wrong("metadata.name", name, _SUBDOMAIN_TEXT)]


def spec_causes(resource: Resource, manifest: Manifest) -> list[Cause]:
    """Say what is wrong with what an object asks for."""
    rule = _RULES.get(resource.bucket)
    return rule(manifest) if rule else []


def _pod_spec(spec: Manifest, path: str, *, claims: tuple[str, ...] = ()) -> list[Cause]:
    containers = spec.get("containers") or []
    causes = [] if containers else [required(f"{path}.containers")]
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()} | set(claims)
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            here = f"{path}.{kind}[{index}]"
            causes += [required(f"{here}.{key}") for key in ("name", "image") if not container.get(key)]
            causes += [
                Cause(field=f"{here}.volumeMounts[{at}].name", reason="FieldValueNotFound", message=f'Not found: "{mount.get("name")}"')
                for at, mount in enumerate(container.get("volumeMounts") or ())
                if mount.get("name") not in volumes
            ]
    return causes


def _pod(manifest: Manifest) -> list[Cause]:
    return _pod_spec(manifest.get("spec") or {}, "spec")


def _workload(manifest: Manifest) -> list[Cause]:
    spec = manifest.get("spec") or {}
    template = spec.get("template") or {}
    claims = tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or ())
    causes = _pod_spec(template.get("spec") or {}, "spec.template.spec", claims=claims)
    if not spec.get("selector"):
        return [required("spec.selector"), *causes]
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not labels_match(label_selector(spec["selector"]), {"metadata": {"labels": labels}}):
        causes.append(wrong("spec.template.metadata.labels", _Json(labels), "`selector` does not match template `labels`"))
    return causes


class _Json:
    """Shows a value as JSON in a message."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        return orjson.dumps(self.value).decode()


def _job(manifest: Manifest) -> list[Cause]:
    spec = ((manifest.get("spec") or {}).get("template") or {}).get("spec") or {}
    causes = _pod_spec(spec, "spec.template.spec")
    if spec.get("restartPolicy") not in ("Never", "OnFailure"):
        shown = 'Unsupported value: "Always": supported values: "OnFailure", "Never"'
        causes.append(Cause(field="spec.template.spec.restartPolicy", reason="FieldValueNotSupported", message=shown))
    return causes


def _cron_job(manifest: Manifest) -> list[Cause]:
    spec = manifest.get("spec") or {}
    return [] if len(str(spec.get("schedule", "")).split()) in (1, 5) and spec.get("schedule") else [required("spec.schedule")]


def _claim(manifest: Manifest) -> list[Cause]:
    spec = manifest.get("spec") or {}
    causes = [] if spec.get("accessModes") else [required("spec.accessModes", "at least 1 access mode is required")]
    if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        causes.append(required("spec.resources[storage]"))
    return causes


def _service(manifest: Manifest) -> list[Cause]:
    spec = manifest.get("spec") or {}
    needs_ports = spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None"
    return [required("spec.ports")] if needs_ports and not spec.get("ports") else []


def _secret(manifest: Manifest) -> list[Cause]:
    needed = {"kubernetes.io/tls": ("tls.crt", "tls.key"), "kubernetes.io/dockerconfigjson": (".dockerconfigjson",)}
    data = manifest.get("data") or {}
    return [required(f"data[{key}]") for key in needed.get(manifest.get("type", ""), ()) if key not in data]


def _crd(manifest: Manifest) -> list[Cause]:
    spec = manifest.get("spec") or {}
    names = spec.get("names") or {}
    expected = f"{names.get('plural')}.{spec.get('group')}"
    causes = []
    if manifest["metadata"].get("name") != expected:
        causes.append(wrong("metadata.name", manifest["metadata"].get("name"), f'must be spec.names.plural+"."+spec.group'))  # noqa: F541
    causes += [required(f"spec.{key}") for key in ("group", "scope", "versions") if not spec.get(key)]
    causes += [required(f"spec.names.{key}") for key in ("plural", "kind") if not names.get(key)]
    for index, version in enumerate(spec.get("versions") or ()):
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            causes.append(required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required"))
    if spec.get("versions") and sum(bool(version.get("storage")) for version in spec["versions"]) != 1:
        causes.append(wrong("spec.versions", "", "must have exactly one version marked as storage version"))
    return causes


_RULES: dict[str, Callable[[Manifest], list[Cause]]] = {
    "/pods": _pod,
    "/persistentvolumeclaims": _claim,
    "/services": _service,
    "/secrets": _secret,
    "apps/deployments": _workload,
    "apps/replicasets": _workload,
    "apps/statefulsets": _workload,
    "apps/daemonsets": _workload,
    "batch/jobs": _job,
    "batch/cronjobs": _cron_job,
    "apiextensions.k8s.io/customresourcedefinitions": _crd,
}


def change_causes(resource: Resource, before: Manifest, after: Manifest) -> list[Cause]:
    """Say which changes are not allowed."""
    old, new = before.get("spec") or {}, after.get("spec") or {}
    match resource.bucket:
        case "/persistentvolumeclaims":
            free = {"resources", "volumeAttributesClassName"} | (set() if old.get("volumeName") else {"volumeName"})
            frozen, wanted = ({key: value for key, value in spec.items() if key not in free} for spec in (old, new))
            if frozen != wanted:
                return [may_not("spec", _CLAIM_TEXT)]
        case "apps/deployments" | "apps/replicasets" | "apps/statefulsets" | "apps/daemonsets" | "batch/jobs":
            if old.get("selector") != new.get("selector"):
                return [wrong("spec.selector", _Json(new.get("selector")), "field is immutable")]
        case "/secrets" | "/configmaps":
            parts = ("data", "stringData", "binaryData", "immutable")
            if before.get("immutable") and any(before.get(part) != after.get(part) for part in parts):
                return [may_not("data", "field is immutable when `immutable` is set")]
            if before.get("type") != after.get("type"):
                return [wrong("type", after.get("type", ""), "field is immutable")]
    return []


_CLAIM_TEXT = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
