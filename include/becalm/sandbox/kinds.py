"""The resources that the sandbox serves from its first moment. Custom resources are added by `crds`."""

from __future__ import annotations

from dataclasses import dataclass, field

from becalm.model import Manifest  # noqa: TC001  (the dataclass keeps it at run time)

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource in one version."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    singular: str = ""
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status: bool = False
    """Whether status is a subresource of its own."""
    scale: bool = False
    generation: bool = False
    """Whether metadata.generation counts changes of the spec."""
    preferred: bool = True
    custom: bool = False
    schema: Manifest | None = field(default=None, compare=False, hash=False)
    """The structural schema of a custom resource."""

    @property
    def bucket(self) -> str:
        """Return the name under which the store keeps its objects, whatever the version."""
        return f"{self.group}/{self.plural}"

    @property
    def api_version(self) -> str:
        """Return `apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_resource(self) -> str:
        """Return `deployments.apps`, as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


S, SCALE, GEN, CLUSTER = "status", "scale", "generation", "cluster"

_TABLE: tuple[tuple[str, str, str, str, str, str], ...] = (
    # group, version, plural, kind, short names, what it has
    ("", "v1", "configmaps", "ConfigMap", "cm", ""),
    ("", "v1", "endpoints", "Endpoints", "ep", ""),
    ("", "v1", "events", "Event", "ev", ""),
    ("", "v1", "limitranges", "LimitRange", "limits", ""),
    ("", "v1", "namespaces", "Namespace", "ns", "status cluster"),
    ("", "v1", "nodes", "Node", "no", "status cluster"),
    ("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", "pvc", "status"),
    ("", "v1", "persistentvolumes", "PersistentVolume", "pv", "status cluster"),
    ("", "v1", "pods", "Pod", "po", "status generation"),
    ("", "v1", "podtemplates", "PodTemplate", "", ""),
    ("", "v1", "replicationcontrollers", "ReplicationController", "rc", "status generation"),
    ("", "v1", "resourcequotas", "ResourceQuota", "quota", "status"),
    ("", "v1", "secrets", "Secret", "", ""),
    ("", "v1", "serviceaccounts", "ServiceAccount", "sa", ""),
    ("", "v1", "services", "Service", "svc", "status"),
    ("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", "", "cluster generation"),
    ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", "", "cluster generation"),
    ("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "", "cluster generation status"),
    (
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        "",
        "cluster generation",
    ),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", "crd crds", "status cluster generation"),
    ("apiregistration.k8s.io", "v1", "apiservices", "APIService", "", "status cluster"),
    ("apps", "v1", "controllerrevisions", "ControllerRevision", "", ""),
    ("apps", "v1", "daemonsets", "DaemonSet", "ds", "status generation"),
    ("apps", "v1", "deployments", "Deployment", "deploy", "status scale generation"),
    ("apps", "v1", "replicasets", "ReplicaSet", "rs", "status scale generation"),
    ("apps", "v1", "statefulsets", "StatefulSet", "sts", "status scale generation"),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", "hpa", "status"),
    ("batch", "v1", "cronjobs", "CronJob", "cj", "status generation"),
    ("batch", "v1", "jobs", "Job", "", "status generation"),
    ("coordination.k8s.io", "v1", "leases", "Lease", "", ""),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", "", "generation"),
    ("networking.k8s.io", "v1", "ingressclasses", "IngressClass", "", "cluster generation"),
    ("networking.k8s.io", "v1", "ingresses", "Ingress", "ing", "status generation"),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", "netpol", "generation"),
    ("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", "", "cluster"),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", "pdb", "status generation"),
    ("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", "", "cluster"),
    ("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", "", "cluster"),
    ("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", "", ""),
    ("rbac.authorization.k8s.io", "v1", "roles", "Role", "", ""),
    ("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", "pc", "cluster"),
    ("storage.k8s.io", "v1", "csidrivers", "CSIDriver", "", "cluster"),
    ("storage.k8s.io", "v1", "csinodes", "CSINode", "", "cluster"),
    ("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity", "", ""),
    ("storage.k8s.io", "v1", "storageclasses", "StorageClass", "sc", "cluster"),
    ("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", "", "status cluster"),
)


_ALL = frozenset(
    [
        "Pod",
        "ReplicationController",
        "Service",
        "DaemonSet",
        "Deployment",
        "ReplicaSet",
        "StatefulSet",
        "HorizontalPodAutoscaler",
        "CronJob",
        "Job",
    ]
)
"""What `kubectl get all` means."""


def _resource(row: tuple[str, str, str, str, str, str]) -> Resource:
    group, version, plural, kind, short, flags = row
    has = frozenset(flags.split())
    return Resource(
        group=group,
        version=version,
        plural=plural,
        kind=kind,
        namespaced=CLUSTER not in has,
        singular=kind.lower(),
        short=tuple(short.split()),
        categories=("all",) if kind in _ALL else (),
        status=S in has,
        scale=SCALE in has,
        generation=GEN in has,
    )


BUILT_IN: tuple[Resource, ...] = tuple(_resource(row) for row in _TABLE)

_BY_BUCKET = {resource.bucket: resource for resource in BUILT_IN}

NAMESPACES = _BY_BUCKET["/namespaces"]
PODS = _BY_BUCKET["/pods"]
CLAIMS = _BY_BUCKET["/persistentvolumeclaims"]
VOLUMES = _BY_BUCKET["/persistentvolumes"]
SECRETS = _BY_BUCKET["/secrets"]
CONFIG_MAPS = _BY_BUCKET["/configmaps"]
SERVICES = _BY_BUCKET["/services"]
SERVICE_ACCOUNTS = _BY_BUCKET["/serviceaccounts"]
NODES = _BY_BUCKET["/nodes"]
CRDS = _BY_BUCKET["apiextensions.k8s.io/customresourcedefinitions"]
DEPLOYMENTS = _BY_BUCKET["apps/deployments"]
REPLICA_SETS = _BY_BUCKET["apps/replicasets"]
STATEFUL_SETS = _BY_BUCKET["apps/statefulsets"]
DAEMON_SETS = _BY_BUCKET["apps/daemonsets"]
JOBS = _BY_BUCKET["batch/jobs"]
CRON_JOBS = _BY_BUCKET["batch/cronjobs"]
STORAGE_CLASSES = _BY_BUCKET["storage.k8s.io/storageclasses"]
CSI_DRIVERS = _BY_BUCKET["storage.k8s.io/csidrivers"]

SNAPSHOT_GROUP = "snapshot.storage.k8s.io"
SNAPSHOTS = "snapshot.storage.k8s.io/volumesnapshots"
SNAPSHOT_CONTENTS = "snapshot.storage.k8s.io/volumesnapshotcontents"
SNAPSHOT_CLASSES = "snapshot.storage.k8s.io/volumesnapshotclasses"
"""The buckets of the snapshot kinds, which are custom resources as in every cluster."""
