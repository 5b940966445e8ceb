"""What a restore changes on purpose in objects for another environment: classes, images, host names, replicas. Pure.

Each function changes the object that it is given, in place. It touches only fields that are known by their place; what a program
hides in its own configuration stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from becalm.kube.rules import child, children, group_kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from becalm.model import Manifest

BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
SCALED = ("Deployment.apps", "StatefulSet.apps", "ReplicaSet.apps", "ReplicationController")
"""The workloads of the cluster itself that have replicas."""
DOCKER = "docker.io"


def map_storage_classes(manifest: Manifest, mapping: Mapping[str, str]) -> None:
    """Name other storage classes: in a claim, in a volume, and in every template of a claim."""
    kind, spec = group_kind(manifest), child(manifest, "spec")
    if kind in {"PersistentVolumeClaim", "PersistentVolume"}:
        _rename(spec, "storageClassName", mapping)
        _rename(child(manifest, "metadata", "annotations"), BETA_CLASS, mapping)
    elif kind == "StatefulSet.apps":
        for template in children(manifest, "spec", "volumeClaimTemplates"):
            _rename(child(template, "spec"), "storageClassName", mapping)
    for pod in pod_specs(manifest):
        for volume in children({"spec": pod}, "spec", "volumes"):
            _rename(child(volume, "ephemeral", "volumeClaimTemplate", "spec"), "storageClassName", mapping)


def map_registries(manifest: Manifest, mapping: Mapping[str, str]) -> None:
    """Take images from elsewhere: of all containers, and of volumes that are images."""
    for pod in pod_specs(manifest):
        for field in ("containers", "initContainers", "ephemeralContainers"):
            for container in children({"spec": pod}, "spec", field):
                _map_image(container, "image", mapping)
        for volume in children({"spec": pod}, "spec", "volumes"):
            _map_image(child(volume, "image"), "reference", mapping)


def map_hosts(manifest: Manifest, mapping: Mapping[str, str]) -> None:
    """Answer to other host names: in Ingresses, in the gateways and routes of the Gateway API, and in OpenShift's routes."""
    kind, spec = group_kind(manifest), child(manifest, "spec")
    group = kind.partition(".")[2]
    if kind in {"Ingress.networking.k8s.io", "Ingress.extensions"}:
        for rule in children(manifest, "spec", "rules"):
            _map_host(rule, "host", mapping)
        for tls in children(manifest, "spec", "tls"):
            _map_host_list(tls, "hosts", mapping)
    elif group == "gateway.networking.k8s.io":
        _map_host_list(spec, "hostnames", mapping)
        for listener in children(manifest, "spec", "listeners"):
            _map_host(listener, "hostname", mapping)
    elif kind == "Route.route.openshift.io":
        _map_host(spec, "host", mapping)


def set_replicas(manifest: Manifest, count: int, *, named: bool) -> None:
    """Give a workload its number of replicas. A kind that is not the cluster's own must be `named` and have the field."""
    spec = child(manifest, "spec")
    if group_kind(manifest) in SCALED or (named and isinstance(spec.get("replicas"), int)):
        spec["replicas"] = count


def suspend(manifest: Manifest) -> None:
    """Let a CronJob start nothing by itself."""
    if group_kind(manifest) == "CronJob.batch":
        manifest.setdefault("spec", {})["suspend"] = True


def pod_specs(manifest: Manifest) -> Iterator[Manifest]:
    """Yield the specification of the pod that an object is, or that it makes."""
    if group_kind(manifest) == "Pod":
        yield child(manifest, "spec")
    yield child(manifest, "spec", "template", "spec")
    yield child(manifest, "spec", "jobTemplate", "spec", "template", "spec")


def _rename(place: Manifest, field: str, mapping: Mapping[str, str]) -> None:
    name = place.get(field)
    if isinstance(name, str) and name in mapping:
        place[field] = mapping[name]


def _map_image(place: Manifest, field: str, mapping: Mapping[str, str]) -> None:
    image = place.get(field)
    if isinstance(image, str):
        place[field] = mapped_image(image, mapping)


def mapped_image(image: str, mapping: Mapping[str, str]) -> str:
    """Return an image under its new registry. The longest source that its name begins with, segment by segment, decides."""
    full = whole_name(image)
    for source in sorted(mapping, key=len, reverse=True):
        for name in (image, full):
            rest = name.removeprefix(source)
            if rest != name and rest[:1] in {"", "/", ":", "@"}:
                return mapping[source] + rest
    return image


def whole_name(image: str) -> str:
    """Return the name of an image with the registry that it has when it names none."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"{DOCKER}/{image}" if slash else f"{DOCKER}/library/{image}"


def _map_host(place: Manifest, field: str, mapping: Mapping[str, str]) -> None:
    host = place.get(field)
    if isinstance(host, str):
        place[field] = mapped_host(host, mapping)


def _map_host_list(place: Manifest, field: str, mapping: Mapping[str, str]) -> None:
    hosts: Any = place.get(field)
    if isinstance(hosts, list):
        place[field] = [mapped_host(host, mapping) if isinstance(host, str) else host for host in hosts]


def mapped_host(host: str, mapping: Mapping[str, str]) -> str:
    """Return a host name under its new domain. The longest source that it is, or ends with, decides."""
    for source in sorted(mapping, key=len, reverse=True):
        if host == source:
            return mapping[source]
        if host.endswith(f".{source}"):
            return host.removesuffix(source) + mapping[source]
    return host
