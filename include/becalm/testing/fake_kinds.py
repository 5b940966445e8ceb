"""The kinds that the cluster in memory serves unless a test says otherwise."""

from __future__ import annotations

import itertools

from becalm.kube.base import Kind

_ALL_VERBS = frozenset({"get", "list", "create", "update", "patch", "delete", "watch"})


def _kinds(group: str, version: str, *rows: str, namespaced: bool = True) -> list[Kind]:
    """Read rows of `resource Kind`."""
    pairs = (row.split() for row in rows)
    return [
        Kind(group=group, version=version, resource=resource, kind=kind, namespaced=namespaced, verbs=_ALL_VERBS)
        for resource, kind in pairs
    ]


DEFAULT_KINDS: tuple[Kind, ...] = tuple(
    itertools.chain(
        _kinds("", "v1", "namespaces Namespace", "nodes Node", "persistentvolumes PersistentVolume", namespaced=False),
        _kinds("", "v1", "configmaps ConfigMap", "endpoints Endpoints", "events Event", "persistentvolumeclaims PersistentVolumeClaim"),
        _kinds(
            "", "v1", "pods Pod", "secrets Secret", "serviceaccounts ServiceAccount", "services Service", "resourcequotas ResourceQuota"
        ),
        _kinds("apps", "v1", "daemonsets DaemonSet", "deployments Deployment", "replicasets ReplicaSet", "statefulsets StatefulSet"),
        _kinds("batch", "v1", "cronjobs CronJob", "jobs Job"),
        _kinds("coordination.k8s.io", "v1", "leases Lease"),
        _kinds("events.k8s.io", "v1", "events Event"),
        _kinds("networking.k8s.io", "v1", "ingresses Ingress", "networkpolicies NetworkPolicy"),
        _kinds("networking.k8s.io", "v1", "ingressclasses IngressClass", namespaced=False),
        _kinds("node.k8s.io", "v1", "runtimeclasses RuntimeClass", namespaced=False),
        _kinds("rbac.authorization.k8s.io", "v1", "roles Role", "rolebindings RoleBinding"),
        _kinds("rbac.authorization.k8s.io", "v1", "clusterroles ClusterRole", "clusterrolebindings ClusterRoleBinding", namespaced=False),
        _kinds("scheduling.k8s.io", "v1", "priorityclasses PriorityClass", namespaced=False),
        _kinds("storage.k8s.io", "v1", "storageclasses StorageClass", "volumeattachments VolumeAttachment", namespaced=False),
        _kinds("snapshot.storage.k8s.io", "v1", "volumesnapshots VolumeSnapshot"),
        _kinds(
            "snapshot.storage.k8s.io",
            "v1",
            "volumesnapshotcontents VolumeSnapshotContent",
            "volumesnapshotclasses VolumeSnapshotClass",
            namespaced=False,
        ),
        _kinds("apiextensions.k8s.io", "v1", "customresourcedefinitions CustomResourceDefinition", namespaced=False),
    )
)
