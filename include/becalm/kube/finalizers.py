"""Whether somebody is there to clear a finalizer. One that nobody clears keeps its object, and then its namespace, for ever. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.kube.rules import SERVER_FINALIZERS, STORAGE_FINALIZERS, child

if TYPE_CHECKING:
    from collections.abc import Collection

    from becalm.model import Manifest

PARTS_OF_A_COMPANY = 2
"""`example.org`: the fewest words of a name that one party owns."""


def uncleared(manifest: Manifest, groups: Collection[str]) -> list[str]:
    """Return the finalizers of an object that belong to no API group which is served. The server's own are not among them."""
    found = child(manifest, "metadata").get("finalizers")
    names = [str(name) for name in found] if isinstance(found, list) else []
    return [name for name in names if not _is_servers(name) and not any(_akin(name, group) for group in groups)]


def _is_servers(name: str) -> bool:
    domain = name.partition("/")[0]
    return name in SERVER_FINALIZERS or name.startswith(STORAGE_FINALIZERS) or domain in {"kubernetes.io", "k8s.io"} or "." not in domain


def _akin(name: str, group: str) -> bool:
    """Say whether a finalizer and a group are of one party: `finalizer.cert-manager.io` and `acme.cert-manager.io` are."""
    domain = name.partition("/")[0]
    if domain.endswith((".k8s.io", ".kubernetes.io")):
        return group == domain or group.endswith(f".{domain}") or domain.endswith(f".{group}")
    return "." in group and domain.split(".")[-PARTS_OF_A_COMPANY:] == group.split(".")[-PARTS_OF_A_COMPANY:]
