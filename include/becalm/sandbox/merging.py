"""How lists of Kubernetes objects merge: which are maps by a key, which are sets, which are one value. Pure."""

from __future__ import annotations

from typing import Any

_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "secrets": ("name",),
    "ownerReferences": ("uid",),
    "conditions": ("type",),
    "hostAliases": ("ip",),
    "webhooks": ("name",),
}

_SETS = frozenset({"finalizers"})

ATOMIC_MAPS = frozenset(
    {"selector", "nodeSelector", "labelSelector", "podSelector", "namespaceSelector", "fieldRef", "secretKeyRef", "configMapKeyRef"}
)


def list_keys(field: str, items: list[Any], *, custom: bool) -> tuple[str, ...]:
    """Return the keys by which a list's items are told apart; nothing where the list is one value.

    Lists of custom resources are one value, but those of the metadata.
    """
    if custom and field != "ownerReferences":
        return ()
    if not items or not all(isinstance(item, dict) for item in items):
        return ()
    if field == "ports":
        name = "containerPort" if "containerPort" in items[0] else "port"
        return (name, "protocol") if all(name in item for item in items) else ()
    keys = _KEYS.get(field, ())
    return keys if all(key in item for item in items for key in keys) else ()


def is_set(field: str) -> bool:
    """Say whether a list of plain values is a set."""
    return field in _SETS


def item_key(item: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return what tells an item apart."""
    return {key: item.get(key, "TCP" if key == "protocol" else None) for key in keys}
