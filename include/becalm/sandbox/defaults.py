"""What the API server fills in where an author says nothing. Only what Becalm and its suites rest on; the rest stays as it was sent. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from becalm.model import Manifest


def fill(bucket: str, manifest: Manifest) -> None:
    """Fill in a new object, in place."""
    filler = _FILLERS.get(bucket)
    if filler:
        filler(manifest)


def _fill(target: Manifest, **values: object) -> None:
    for key, value in values.items():
        target.setdefault(key, value)


def pod_spec(spec: Manifest) -> None:
    """Fill in the spec of a pod, or of a pod's template."""
    _fill(spec, restartPolicy="Always", terminationGracePeriodSeconds=30, dnsPolicy="ClusterFirst", securityContext={})
    _fill(spec, schedulerName="default-scheduler")
    if "serviceAccountName" in spec:
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        image = str(container.get("image", ""))
        latest = ":" not in image.rpartition("/")[2] or image.endswith(":latest")
        _fill(container, resources={}, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
        _fill(container, imagePullPolicy="Always" if latest else "IfNotPresent")
        for port in container.get("ports") or ():
            _fill(port, protocol="TCP")
        for variable in container.get("env") or ():
            if "fieldRef" in (variable.get("valueFrom") or {}):
                _fill(variable["valueFrom"]["fieldRef"], apiVersion="v1")
    for volume in spec.get("volumes") or ():
        for source in ("secret", "configMap", "projected"):
            if isinstance(volume.get(source), dict):
                _fill(volume[source], defaultMode=420)


def _template(spec: Manifest) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    pod_spec(template.setdefault("spec", {}))


def _pod(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    pod_spec(spec)
    _fill(spec, serviceAccountName="default", enableServiceLinks=True, preemptionPolicy="PreemptLowerPriority", priority=0)
    _fill(spec, serviceAccount=spec["serviceAccountName"])
    if "tolerations" not in spec:
        spec["tolerations"] = [
            {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
            for state in ("not-ready", "unreachable")
        ]


def _deployment(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec.setdefault("strategy", {"type": "RollingUpdate"})
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _fill(strategy.setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")
    _template(spec)


def _replica_set(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    _fill(spec, replicas=1)
    _template(spec)


def _stateful_set(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    _fill(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady", serviceName="")
    _fill(spec, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    _fill(spec, persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Retain"})
    _template(spec)
    for claim in spec.get("volumeClaimTemplates") or ():
        claim |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        _fill(claim.setdefault("spec", {}), volumeMode="Filesystem")
        _fill(claim, status={"phase": "Pending"})


def _daemon_set(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    _fill(spec, revisionHistoryLimit=10, updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    _template(spec)


def job_spec(spec: Manifest) -> None:
    """Fill in the spec of a Job."""
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    _fill(spec, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False, podReplacementPolicy="TerminatingOrFailed")
    _template(spec)


def _job(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    job_spec(spec)
    if spec.get("manualSelector"):
        return
    spec["manualSelector"] = False
    uid, name = manifest["metadata"]["uid"], manifest["metadata"]["name"]
    marks = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    metadata = spec["template"].setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **marks}
    if not manifest["metadata"].get("labels"):
        manifest["metadata"]["labels"] = dict(metadata["labels"])
    spec.setdefault("selector", {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})


def _cron_job(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    _fill(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    template = spec.setdefault("jobTemplate", {})
    template.setdefault("metadata", {})
    _template(template.setdefault("spec", {}))


def _claim(manifest: Manifest) -> None:
    _fill(manifest.setdefault("spec", {}), volumeMode="Filesystem")
    source = manifest["spec"].get("dataSource") or manifest["spec"].get("dataSourceRef")
    if source:
        _fill(manifest["spec"], dataSource=source, dataSourceRef=source)


def _volume(manifest: Manifest) -> None:
    _fill(manifest.setdefault("spec", {}), persistentVolumeReclaimPolicy="Retain", volumeMode="Filesystem")


def _service(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    _fill(spec, type="ClusterIP", sessionAffinity="None")
    for port in spec.get("ports") or ():
        _fill(port, protocol="TCP", targetPort=port.get("port"))
    if spec["type"] != "ExternalName":
        _fill(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")


def _secret(manifest: Manifest) -> None:
    _fill(manifest, type="Opaque")


def _storage_class(manifest: Manifest) -> None:
    _fill(manifest, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _subjects(manifest: Manifest) -> None:
    for subject in manifest.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            _fill(subject, apiGroup="rbac.authorization.k8s.io")
    _fill(manifest.setdefault("roleRef", {}), apiGroup="rbac.authorization.k8s.io")


def _network_policy(manifest: Manifest) -> None:
    spec = manifest.setdefault("spec", {})
    _fill(spec, policyTypes=["Ingress", "Egress"] if "egress" in spec else ["Ingress"])


_FILLERS: dict[str, Callable[[Manifest], None]] = {
    "/pods": _pod,
    "/persistentvolumeclaims": _claim,
    "/persistentvolumes": _volume,
    "/services": _service,
    "/secrets": _secret,
    "apps/deployments": _deployment,
    "apps/replicasets": _replica_set,
    "apps/statefulsets": _stateful_set,
    "apps/daemonsets": _daemon_set,
    "batch/jobs": _job,
    "batch/cronjobs": _cron_job,
    "storage.k8s.io/storageclasses": _storage_class,
    "rbac.authorization.k8s.io/rolebindings": _subjects,
    "rbac.authorization.k8s.io/clusterrolebindings": _subjects,
    "networking.k8s.io/networkpolicies": _network_policy,
}
