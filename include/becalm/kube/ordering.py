"""The order in which kinds are restored: ten classes, and ranks within a class where one kind refers to another. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from becalm.kube.base import Kind


class OrderClass(IntEnum):
    """The classes, in their order. Each is whole before the next begins."""

    DEFINITIONS = 1
    """CustomResourceDefinitions; then wait until they are served."""
    CLUSTER = 2
    """What belongs to no namespace, but what guards the API."""
    NAMESPACES = 3
    STORAGE = 4
    """Claims; movers fill them before anything mounts them."""
    ACCESS = 5
    CONFIGURATION = 6
    NETWORK = 7
    WORKLOADS = 8
    OTHERS = 9
    """Custom resources among them."""
    GATES = 10
    """APIServices and webhooks: what they guard is restored by then, and so is what serves them."""


_CLASSES: dict[str, tuple[OrderClass, int]] = {
    "customresourcedefinitions.apiextensions.k8s.io": (OrderClass.DEFINITIONS, 0),
    "namespaces": (OrderClass.NAMESPACES, 0),
    "persistentvolumes": (OrderClass.STORAGE, 0),
    "persistentvolumeclaims": (OrderClass.STORAGE, 1),
    "serviceaccounts": (OrderClass.ACCESS, 0),
    "roles.rbac.authorization.k8s.io": (OrderClass.ACCESS, 1),
    "rolebindings.rbac.authorization.k8s.io": (OrderClass.ACCESS, 2),
    "secrets": (OrderClass.CONFIGURATION, 0),
    "configmaps": (OrderClass.CONFIGURATION, 0),
    "limitranges": (OrderClass.CONFIGURATION, 0),
    "endpoints": (OrderClass.NETWORK, 0),
    "endpointslices.discovery.k8s.io": (OrderClass.NETWORK, 0),
    "services": (OrderClass.NETWORK, 1),
    "pods": (OrderClass.WORKLOADS, 0),
    "replicationcontrollers": (OrderClass.WORKLOADS, 0),
    "deployments.apps": (OrderClass.WORKLOADS, 0),
    "replicasets.apps": (OrderClass.WORKLOADS, 0),
    "statefulsets.apps": (OrderClass.WORKLOADS, 0),
    "daemonsets.apps": (OrderClass.WORKLOADS, 0),
    "jobs.batch": (OrderClass.WORKLOADS, 0),
    "cronjobs.batch": (OrderClass.WORKLOADS, 0),
    "clusterrolebindings.rbac.authorization.k8s.io": (OrderClass.CLUSTER, 1),
    "apiservices.apiregistration.k8s.io": (OrderClass.GATES, 0),
    "validatingadmissionpolicies.admissionregistration.k8s.io": (OrderClass.GATES, 1),
    "mutatingadmissionpolicies.admissionregistration.k8s.io": (OrderClass.GATES, 1),
    "validatingadmissionpolicybindings.admissionregistration.k8s.io": (OrderClass.GATES, 2),
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io": (OrderClass.GATES, 2),
    "validatingwebhookconfigurations.admissionregistration.k8s.io": (OrderClass.GATES, 2),
    "mutatingwebhookconfigurations.admissionregistration.k8s.io": (OrderClass.GATES, 2),
}


def wave(kind: Kind) -> tuple[OrderClass, int]:
    """Return a kind's class and its rank within it; what is of one wave is restored side by side."""
    return _CLASSES.get(str(kind), (OrderClass.OTHERS if kind.namespaced else OrderClass.CLUSTER, 0))


def order_class(kind: Kind) -> int:
    """Return a kind's class: the lower comes first."""
    return int(wave(kind)[0])
