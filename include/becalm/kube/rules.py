"""What the server, and not the author, puts into an object: a table of rules, each with its name and its reason.

Two use it: `resources.strip`, which makes an object ready to be created, and `diffing.comparable`, which makes two objects ready
to be compared. It never looks at a cluster, and it decides nothing about whole objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from json import loads
from typing import Any, TypeAlias

from becalm.kube.base import ANNOTATION_BEFORE, ANNOTATION_IN_PLACE, ANNOTATION_RESTORED_FROM
from becalm.model import Manifest

ANNOTATION_FILLED = "becalm.dev/filled"
"""On a claim that a restore made: FILL_PENDING, FILL_NONE, or the tree it was filled with."""
FILL_PENDING = "pending"
FILL_NONE = "none"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

Remove: TypeAlias = Callable[[Manifest], None]


def group_kind(manifest: Manifest) -> str:
    """Return `Deployment.apps`, or `Service` for the core group: the version does not matter."""
    group, slash, _ = str(manifest.get("apiVersion", "")).partition("/")
    return f"{manifest.get('kind', '')}.{group}" if slash else str(manifest.get("kind", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that is taken out: its name, why, of which kinds (none named: of all), and how."""

    name: str
    because: str
    kinds: tuple[str, ...] = ()
    creating: bool = True
    """Whether it holds for an object that is to be created."""
    comparing: bool = True
    """Whether it holds for objects that are compared."""
    remove: Remove

    def meets(self, manifest: Manifest) -> bool:
        """Say whether the rule speaks of this kind."""
        return not self.kinds or group_kind(manifest) in self.kinds


def child(manifest: Manifest, *path: str) -> Manifest:
    """Return the mapping at a path, or an empty one that belongs to nothing."""
    found: Any = manifest
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def children(manifest: Manifest, *path: str) -> list[Manifest]:
    """Return the mappings of the list at a path; anything else in it is passed over."""
    found = child(manifest, *path[:-1]).get(path[-1])
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def fields(*names: str, at: tuple[str, ...] = ()) -> Remove:
    """Take fields out of the mapping at a path."""

    def remove(manifest: Manifest) -> None:
        place = child(manifest, *at)
        for name in names:
            place.pop(name, None)

    return remove


def keys(*names: str, of: str) -> Remove:
    """Take labels or annotations (`of`) out of the metadata."""
    return fields(*names, at=("metadata", of))


def _finalizers(manifest: Manifest) -> None:
    metadata = child(manifest, "metadata")
    if isinstance(metadata.get("finalizers"), list):
        metadata["finalizers"] = [name for name in metadata["finalizers"] if not _is_servers(str(name))]


def _is_servers(finalizer: str) -> bool:
    return finalizer in SERVER_FINALIZERS or finalizer.startswith(STORAGE_FINALIZERS)


STORAGE_FINALIZERS = (
    "snapshot.storage.kubernetes.io/",
    "groupsnapshot.storage.kubernetes.io/",
    "provisioner.storage.kubernetes.io/",
    "external-attacher/",
)
"""Storage controllers mark objects for the time of one operation. Objects are captured within such a time: while their claims are cut."""


SERVER_FINALIZERS = frozenset(
    {
        "foregroundDeletion",
        "orphan",
        "kubernetes.io/pv-protection",
        "kubernetes.io/pvc-protection",
        "service.kubernetes.io/load-balancer-cleanup",
        "batch.kubernetes.io/job-tracking",
        "customresourcecleanup.apiextensions.k8s.io",
        "external-provisioner.volume.kubernetes.io/finalizer",
    }
)


def _cluster_ips(manifest: Manifest) -> None:
    spec = child(manifest, "spec")
    if spec.get("clusterIP") != "None":
        spec.pop("clusterIP", None)
        spec.pop("clusterIPs", None)


def _node_ports(manifest: Manifest) -> None:
    """Take out the ports that the server chose.

    What the author asked for stands in kubectl's annotation or in managedFields: the server's own choice is made after the
    fields of a request were recorded. An object without a resourceVersion never came from a server, or was stripped already.
    """
    metadata, spec = child(manifest, "metadata"), child(manifest, "spec")
    if "resourceVersion" not in metadata:
        return
    asked = list(_asked_ports(metadata))
    for port in children(manifest, "spec", "ports"):
        if (port.get("port"), port.get("protocol", "TCP")) not in asked:
            port.pop("nodePort", None)
    if not any("f:healthCheckNodePort" in owned for owned in _owned_specs(metadata)):
        spec.pop("healthCheckNodePort", None)


def _asked_ports(metadata: Manifest) -> Iterator[tuple[object, object]]:
    with suppress(ValueError, TypeError):
        applied = loads(child(metadata, "annotations").get(LAST_APPLIED, "{}"))
        yield from ((port.get("port"), port.get("protocol", "TCP")) for port in children(applied, "spec", "ports") if port.get("nodePort"))
    for owned in _owned_specs(metadata):
        for key, value in child(owned, "f:ports").items():
            if key.startswith("k:") and isinstance(value, dict) and "f:nodePort" in value:
                with suppress(ValueError):
                    port = loads(key[2:])
                    yield port.get("port"), port.get("protocol", "TCP")


def _owned_specs(metadata: Manifest) -> Iterator[Manifest]:
    for entry in children({"metadata": metadata}, "metadata", "managedFields"):
        yield child(entry, "fieldsV1", "f:spec")


def _token_volumes(manifest: Manifest) -> None:
    """Take out the volumes of service-account tokens, which admission adds again under a new name."""
    spec = child(manifest, "spec")
    account = str(spec.get("serviceAccountName", "default"))
    prefixes = ("kube-api-access-", f"{account}-token-")
    if not any(_is_generated(volume.get("name"), prefixes) for volume in children(manifest, "spec", "volumes")):
        return
    _drop_generated(spec, "volumes", prefixes)
    for container in [*children(manifest, "spec", "containers"), *children(manifest, "spec", "initContainers")]:
        _drop_generated(container, "volumeMounts", prefixes)


def _drop_generated(place: Manifest, field: str, prefixes: tuple[str, ...]) -> None:
    """Take the items with a generated name out of a list, and the list where nothing is left."""
    found = place.get(field)
    if isinstance(found, list):
        place[field] = [item for item in found if not (isinstance(item, dict) and _is_generated(item.get("name"), prefixes))]
        _drop_empty(place, field)


def _is_generated(name: object, prefixes: tuple[str, ...]) -> bool:
    """Say whether a name is one of the prefixes with the five characters that the server draws."""
    return isinstance(name, str) and any(name.startswith(prefix) and len(name) == len(prefix) + 5 for prefix in prefixes)


def is_automatic_token(manifest: Manifest) -> bool:
    """Say whether a Secret is the token that old controllers made for each service account."""
    account = child(manifest, "metadata", "annotations").get("kubernetes.io/service-account.name", "")
    name = child(manifest, "metadata").get("name")
    return manifest.get("type") == "kubernetes.io/service-account-token" and _is_generated(name, (f"{account}-token-",))


def _job_selector(manifest: Manifest) -> None:
    """Take out the selector and the labels that hold a Job's uid; the server refuses those of another."""
    spec = child(manifest, "spec")
    if spec.get("manualSelector"):
        return
    spec.pop("selector", None)
    for labels in (child(manifest, "metadata", "labels"), child(spec, "template", "metadata", "labels")):
        for name in ("controller-uid", "batch.kubernetes.io/controller-uid", "job-name", "batch.kubernetes.io/job-name"):
            labels.pop(name, None)
    template = child(spec, "template", "metadata")
    _drop_empty(template, "labels")
    template.pop("creationTimestamp", None)


def _account_tokens(manifest: Manifest) -> None:
    name = str(child(manifest, "metadata").get("name", ""))
    _drop_generated(manifest, "secrets", (f"{name}-token-", f"{name}-dockercfg-"))


def _token_data(manifest: Manifest) -> None:
    if manifest.get("type") == "kubernetes.io/service-account-token":
        child(manifest, "metadata", "annotations").pop("kubernetes.io/service-account.uid", None)
        for name in ("token", "ca.crt", "namespace"):
            child(manifest, "data").pop(name, None)
        _drop_empty(manifest, "data")


def _aggregated(manifest: Manifest) -> None:
    if manifest.get("aggregationRule"):
        manifest.pop("rules", None)


def _preserved_fields(manifest: Manifest) -> None:
    """Say per version that unknown fields are kept; the switch for all of them is refused by the server."""
    spec = child(manifest, "spec")
    if not spec.pop("preserveUnknownFields", False):
        return
    for version in children(manifest, "spec", "versions"):
        schema = version.setdefault("schema", {}).setdefault("openAPIV3Schema", {"type": "object"})
        schema["x-kubernetes-preserve-unknown-fields"] = True


def _side_effects(manifest: Manifest) -> None:
    for webhook in children(manifest, "webhooks"):
        if webhook.get("sideEffects") not in {"None", "NoneOnDryRun"}:
            webhook["sideEffects"] = "None"


def _owner_uids(manifest: Manifest) -> None:
    for owner in children(manifest, "metadata", "ownerReferences"):
        owner.pop("uid", None)


def _template_stamp(manifest: Manifest) -> None:
    metadata = child(manifest, "spec", "template", "metadata")
    if metadata.get("creationTimestamp") is None:
        metadata.pop("creationTimestamp", None)


def _empty_maps(manifest: Manifest) -> None:
    metadata = child(manifest, "metadata")
    _drop_empty(metadata, "labels", "annotations", "finalizers", "ownerReferences")


def _drop_empty(place: Manifest, *names: str) -> None:
    for name in names:
        if name in place and not place[name]:
            del place[name]


WORKLOADS = ("Deployment.apps", "StatefulSet.apps", "DaemonSet.apps", "ReplicaSet.apps", "ReplicationController")

RULES: tuple[Rule, ...] = (
    Rule(name="node-ports", because="the server chooses a port where the author asks for none", kinds=("Service",), remove=_node_ports),
    Rule(name="cluster-ips", because="the server chooses the addresses of a Service", kinds=("Service",), remove=_cluster_ips),
    Rule(
        name="server-metadata",
        because="identity, versions, times and field managers are of one object in one cluster",
        remove=fields(
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "managedFields",
            "generateName",
            at=("metadata",),
        ),
    ),
    Rule(name="status", because="controllers observe it again", remove=fields("status")),
    Rule(
        name="owner-references",
        because="they are linked to the new uids",
        comparing=False,
        remove=fields("ownerReferences", at=("metadata",)),
    ),
    Rule(name="owner-uids", because="a restored owner has a new uid", creating=False, remove=_owner_uids),
    Rule(
        name="restore-marks",
        because="Becalm's own marks on what it restored",
        remove=keys(ANNOTATION_RESTORED_FROM, ANNOTATION_FILLED, ANNOTATION_BEFORE, ANNOTATION_IN_PLACE, of="annotations"),
    ),
    Rule(name="server-finalizers", because="the server and its controllers add them", remove=_finalizers),
    Rule(
        name="rollout-marks",
        because="controllers count the revisions of a workload",
        kinds=WORKLOADS,
        remove=keys(
            "deployment.kubernetes.io/revision",
            "deployment.kubernetes.io/revision-history",
            "deployment.kubernetes.io/desired-replicas",
            "deployment.kubernetes.io/max-replicas",
            "deprecated.daemonset.template.generation",
            of="annotations",
        ),
    ),
    Rule(name="template-stamp", because="some servers write an empty time into templates", kinds=WORKLOADS, remove=_template_stamp),
    Rule(
        name="pod-labels",
        because="controllers number their pods",
        kinds=("Pod", "ReplicaSet.apps"),
        remove=keys(
            "pod-template-hash",
            "controller-revision-hash",
            "pod-template-generation",
            "statefulset.kubernetes.io/pod-name",
            "apps.kubernetes.io/pod-index",
            of="labels",
        ),
    ),
    Rule(
        name="pod-placement",
        because="the scheduler chooses the node, admission the priority",
        kinds=("Pod",),
        remove=fields("nodeName", "priority", "preemptionPolicy", "ephemeralContainers", at=("spec",)),
    ),
    Rule(name="token-volumes", because="admission mounts a new token", kinds=("Pod",), remove=_token_volumes),
    Rule(name="job-selector", because="it holds the uid of the Job", kinds=("Job.batch",), remove=_job_selector),
    Rule(
        name="claim-binding",
        because="a restored claim gets a volume of its own",
        kinds=("PersistentVolumeClaim",),
        remove=fields("volumeName", "dataSource", "dataSourceRef", at=("spec",)),
    ),
    Rule(
        name="claim-marks",
        because="the volume controller marks what it bound",
        kinds=("PersistentVolumeClaim", "PersistentVolume"),
        remove=keys(
            "pv.kubernetes.io/bind-completed",
            "pv.kubernetes.io/bound-by-controller",
            "pv.kubernetes.io/migrated-to",
            "volume.beta.kubernetes.io/storage-provisioner",
            "volume.kubernetes.io/storage-provisioner",
            "volume.kubernetes.io/storage-resizer",
            "volume.kubernetes.io/selected-node",
            of="annotations",
        ),
    ),
    Rule(name="account-tokens", because="old controllers name the tokens they made", kinds=("ServiceAccount",), remove=_account_tokens),
    Rule(name="token-data", because="the token controller fills it in", kinds=("Secret",), remove=_token_data),
    Rule(name="namespace-finalizers", because="the server sets them", kinds=("Namespace",), remove=fields("finalizers", at=("spec",))),
    Rule(
        name="namespace-spec", because="nothing else is in it", kinds=("Namespace",), remove=lambda manifest: _drop_empty(manifest, "spec")
    ),
    Rule(
        name="namespace-label",
        because="the server writes the name of a namespace into a label",
        kinds=("Namespace",),
        remove=keys("kubernetes.io/metadata.name", of="labels"),
    ),
    Rule(
        name="endpoint-marks",
        because="the endpoints controller marks its last change",
        kinds=("Endpoints",),
        remove=keys("endpoints.kubernetes.io/last-change-trigger-time", of="annotations"),
    ),
    Rule(
        name="aggregated-rules",
        because="a controller gathers the rules of an aggregating role",
        kinds=("ClusterRole.rbac.authorization.k8s.io",),
        remove=_aggregated,
    ),
    Rule(
        name="preserved-fields",
        because="version 1 of the definitions says the same in its schema only",
        kinds=("CustomResourceDefinition.apiextensions.k8s.io",),
        comparing=False,
        remove=_preserved_fields,
    ),
    Rule(
        name="side-effects",
        because="version 1 of the webhooks takes only those without",
        kinds=("ValidatingWebhookConfiguration.admissionregistration.k8s.io", "MutatingWebhookConfiguration.admissionregistration.k8s.io"),
        comparing=False,
        remove=_side_effects,
    ),
    Rule(name="empty-maps", because="an empty map and none are the same", remove=_empty_maps),
)
"""In this order: node ports are judged by managedFields, which a later rule takes out."""
