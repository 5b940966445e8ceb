"""What `coverage`, `claims` and `assess` read of a cluster, and the claims that lie beside policies. It only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.cli.ports import environment
from becalm.clock import SystemClock
from becalm.errors import PolicyError
from becalm.policy import claims

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from becalm.kube.base import Cluster
    from becalm.policy.claims import StatelessClaim


def reach(*, kubeconfig: str = "", context: str = "", prefer: str = "") -> Cluster:
    """Return the cluster that was asked for. Raises UsageError (kubeconfig)."""
    from becalm.kube import connect  # noqa: PLC0415  (the official client takes more than a second to import)
    from becalm.kube.wrappers import RetryingCluster  # noqa: PLC0415

    named = kubeconfig or environment().get("KUBECONFIG") or None
    return RetryingCluster(connect(kubeconfig=named, context=context or None, prefer_context=prefer or None), SystemClock())


def own_namespace() -> str:
    """Return the namespace that is Becalm's own."""
    return environment().get("BECALM_NAMESPACE") or "becalm"


def claims_in(paths: Iterable[Path]) -> list[StatelessClaim]:
    """Return the claims among these files and folders. Raises PolicyError with the findings of every file that cannot be read."""
    files: list[Path] = []
    for path in paths:
        files += list(claims.load_folder(path)) if path.is_dir() else [path]
    found = claims.load_files(list(dict.fromkeys(files)))
    if bad := [answer for answer in found.values() if isinstance(answer, PolicyError)]:
        if len(bad) == 1:
            raise bad[0]
        many = tuple(finding for error in bad for finding in error.findings)
        raise PolicyError(f"{len(bad)} claims cannot be read", where=", ".join(error.where for error in bad), findings=many)
    return [answer for answer in found.values() if not isinstance(answer, PolicyError)]
