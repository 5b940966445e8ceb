"""The port to a cluster, its adapter, and what is known of Kubernetes objects. It knows nothing of policies or repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from becalm.kube.base import Cluster

__all__ = ["connect"]


def connect(
    *,
    kubeconfig: str | None = None,
    context: str | None = None,
    prefer_context: str | None = None,
    in_cluster: bool = False,
    kubeconfig_dict: dict[str, Any] | None = None,
) -> Cluster:
    """Return the cluster that a kubeconfig (file or document) or this pod's service account names; nothing is sent yet.

    Without arguments: $KUBECONFIG, or ~/.kube/config. `context` must exist; `prefer_context` is used if it does, and the current
    context otherwise. Called at edges only. Raises: UsageError.
    """
    from becalm.kube.client import open_cluster  # noqa: PLC0415  (the official client takes more than a second to import)

    return open_cluster(
        kubeconfig=kubeconfig, context=context, prefer_context=prefer_context, in_cluster=in_cluster, kubeconfig_dict=kubeconfig_dict
    )
