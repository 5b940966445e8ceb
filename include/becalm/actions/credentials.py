"""The Secret that a mover mounts: the store's credentials and the repository's password, for the time of one run.

It owns that Secret from its making to its removal, in whatever namespace the mover runs. It never touches a Secret that is
not of the same run, and it never hands a value back: what stands in the Secret is in no result, no log and no error.
"""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from becalm.clock import format_time
from becalm.errors import AlreadyExists
from becalm.kube.base import ANNOTATION_EXPIRES, LABEL_MANAGED, LABEL_RUN, MANAGER, ROLE_RESTORE, Verb, owned_by
from becalm.kube.kinds import SECRET

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.actions.handover import Ports
    from becalm.model import Manifest

PASSWORD_KEY = "password"  # noqa: S105  (the name of the key, not a password)
ROLE = "mover"
RESTORE_ROLE = ROLE_RESTORE
"""The role of a restore's Secret."""


def secret_name(run: str) -> str:
    """Return the name of a run's Secret: one in each namespace where its movers run."""
    return f"becalm-{run}"


def mover_secret(policy: str, run: str, namespace: str, ports: Ports, *, role: str = ROLE, expires: datetime | None = None) -> Manifest:
    """Describe the Secret of a run, by the run's key: one item per variable of the store, and `password`. Pure."""
    marks = {"annotations": {ANNOTATION_EXPIRES: format_time(expires)}} if expires else {}
    items = {**ports.settings.store_environment, PASSWORD_KEY: ports.password}
    labels = owned_by(policy, run, role, repository=ports.store.url)
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {"name": secret_name(run), "namespace": namespace, "labels": labels, **marks},
        "type": "Opaque",
        "data": {key: b64encode(value.encode()).decode() for key, value in sorted(items.items())},
    }


def ensure(policy: str, run: str, namespace: str, ports: Ports, *, role: str = ROLE, expires: datetime | None = None) -> str:
    """Make the Secret, or bring the one of this run up to date; return its name. Idempotent: what is right already is not written.

    `expires` is until when its user surely lives, where no lease says so.
    Raises: AlreadyExists (a Secret of that name belongs to someone else), NotFound (no such namespace).
    """
    wanted = mover_secret(policy, run, namespace, ports, role=role, expires=expires)
    name: str = wanted["metadata"]["name"]
    try:
        ports.cluster.apply(SECRET, wanted, verb=Verb.CREATE)
    except AlreadyExists:
        found = ports.cluster.get(SECRET, name, namespace=namespace)
        if not _is_of(run, found):
            raise AlreadyExists(
                f"a Secret named {name} stands there and is not of this run",
                where=f"secrets/{namespace}/{name}",
                hint="remove it, or find out who made it: Becalm overwrites nothing of others",
            ) from None
        if expires or found.get("data") != wanted["data"]:
            ports.cluster.apply(SECRET, wanted, verb=Verb.UPDATE)
    return name


def prolong(run: str, namespace: str, until: datetime, ports: Ports) -> None:
    """Write onto the Secret of a restore until when that surely lives. Raises: NotFound, AccessDenied, and what is transient."""
    mark = {ANNOTATION_EXPIRES: format_time(until)}
    ports.cluster.apply(SECRET, {"metadata": {"name": secret_name(run), "namespace": namespace, "annotations": mark}}, verb=Verb.MERGE)


def remove(policy: str, run: str, ports: Ports, *, namespace: str | None = None, role: str = ROLE) -> int:
    """Remove the Secrets of a run, in one namespace or wherever they are; return how many there were. None is fine."""
    labels = ",".join(f"{key}={value}" for key, value in owned_by(policy, run, role, repository=ports.store.url).items())
    gone = 0
    for found in ports.cluster.list(SECRET, namespace=namespace, labels=labels):
        metadata = found["metadata"]
        if metadata["name"] == secret_name(run):
            gone += ports.cluster.delete(SECRET, metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"])
    return gone


def _is_of(run: str, found: Manifest) -> bool:
    labels = found["metadata"].get("labels") or {}
    return bool(labels.get(LABEL_MANAGED) == MANAGER and labels.get(LABEL_RUN) == run)
