"""How much a difference matters: by what the object can do, and by what the field does. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from becalm.kube.rules import group_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.model import Manifest


class Weight(StrEnum):
    """How much a difference matters."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


_RIGHTS = "it grants rights"
_REQUESTS = "it can change or refuse the requests of others"
_KINDS = {
    "Secret": "it holds what others must not know",
    "Role.rbac.authorization.k8s.io": _RIGHTS,
    "RoleBinding.rbac.authorization.k8s.io": _RIGHTS,
    "ClusterRole.rbac.authorization.k8s.io": _RIGHTS,
    "ClusterRoleBinding.rbac.authorization.k8s.io": _RIGHTS,
    "ValidatingWebhookConfiguration.admissionregistration.k8s.io": _REQUESTS,
    "MutatingWebhookConfiguration.admissionregistration.k8s.io": _REQUESTS,
    "ValidatingAdmissionPolicy.admissionregistration.k8s.io": _REQUESTS,
    "ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io": _REQUESTS,
    "APIService.apiregistration.k8s.io": "it answers requests in the server's place",
    "NetworkPolicy.networking.k8s.io": "it says who may speak with whom",
}
_POWERS = re.compile(
    r"(?:^|\.)(?:securityContext|hostNetwork|hostPID|hostIPC|hostPath|serviceAccountName|automountServiceAccountToken)(?=$|[.\[])"
)
_CODE = re.compile(r"ontainers\[[^\]]*\](?:$|\.(?:image|command|args)(?=$|[.\[]))")
_MARKS = ("metadata.labels", "metadata.annotations")


def weigh(manifest: Manifest, paths: Sequence[str]) -> tuple[Weight, str]:
    """Return how much it matters, and why. No paths: the whole object came or went."""
    because = _KINDS.get(group_kind(manifest), "")
    if paths and all(path.startswith(_MARKS) for path in paths):
        return (Weight.MEDIUM, f"{because}, and labels can choose it") if because else (Weight.LOW, "labels and annotations only")
    if because:
        return Weight.HIGH, because
    if any(_POWERS.search(path) for path in paths):
        return Weight.HIGH, "it changes what a workload may do"
    if any(_CODE.search(path) for path in paths):
        return Weight.HIGH, "it changes what code runs"
    return Weight.MEDIUM, "its content" if paths else "a whole object"
