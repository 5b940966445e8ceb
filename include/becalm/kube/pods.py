"""The mover as a pod: how it is described (`mover_pod`, pure) and how it is run, watched and ended (`PodMover`).

A mover has no right to call the API, mounts one claim and one Secret, and is given capabilities instead of privileges. What it moves
goes to the bucket by itself: nothing rests on the pod's life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from becalm.clock import Deadline, parse_time
from becalm.errors import AlreadyExists, BecalmError, MoverFailed, NotFound, PermanentError
from becalm.kube.base import ANNOTATION_VOLUME, LABEL_RUN, ROLE_RESTORE, MoverState, MoverStatus, Verb, owned_by
from becalm.kube.kinds import EVENT, POD
from becalm.model import Direction, MoverResult, VolumeMode, from_payload, payload

if TYPE_CHECKING:
    from collections.abc import Callable

    from becalm.clock import Clock
    from becalm.kube.base import Cluster
    from becalm.model import Manifest, MoverSpec

CONTAINER = "mover"
SECRET_FOLDER = "/var/run/becalm"  # noqa: S105  (a folder's name)
VOLUME_FOLDER = "/volume"
VOLUME_DEVICE = "/dev/volume"
TERMINATION = "/dev/termination-log"
USER = 0
"""Root, without its powers: files belong to whom they belong, and each is read and written as such."""
READING = ("DAC_READ_SEARCH",)
WRITING = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP")
HOPELESS = ("ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError")
"""Reasons for which a container waits and will not start by waiting longer."""
HOPELESS_AFTER_SECONDS = 30.0
"""For how long such a reason may yet pass: a Secret may be a moment late."""
GONE_SECONDS = 30.0
PAUSE_SECONDS = 0.25
GRACE_SECONDS = 10
PROGRESS_SECONDS = 5.0


def mover_pod(
    spec: MoverSpec,
    *,
    image: str,
    policy: str,
    memory_request: str = "512Mi",
    memory_limit: str = "1Gi",
    timeout_seconds: float | None = None,
    pull_policy: str = "IfNotPresent",
) -> Manifest:
    """Describe the pod that does what a spec says. Pure; there is no secret in it."""
    pod: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsUser": USER, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(spec, image=image, pull_policy=pull_policy, requests=memory_request, limits=memory_limit)],
        "volumes": [
            {"name": "volume", "persistentVolumeClaim": {"claimName": spec.claim, "readOnly": spec.direction is Direction.BACK_UP}},
            {"name": "secret", "secret": {"secretName": spec.secret, "defaultMode": 0o400}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    if spec.node:
        pod |= _on_node(spec.node)
    if timeout_seconds:
        pod["activeDeadlineSeconds"] = int(timeout_seconds)
    role = ROLE_RESTORE if spec.direction is Direction.RESTORE else "mover"
    return {
        "apiVersion": POD.api_version,
        "kind": POD.kind,
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": owned_by(policy, spec.run, role, repository=spec.repository),
            "annotations": {ANNOTATION_VOLUME: str(spec.volume)},
        },
        "spec": pod,
    }


def _container(spec: MoverSpec, *, image: str, pull_policy: str, requests: str, limits: str) -> Manifest:
    block = spec.mode is VolumeMode.BLOCK
    reading = spec.direction is Direction.BACK_UP
    mounts: list[Manifest] = [
        {"name": "secret", "mountPath": SECRET_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  (the pod's own, empty)
    ]
    if not block:
        mounts.append({"name": "volume", "mountPath": VOLUME_FOLDER, "readOnly": reading})
    environment = {
        "BECALM_MOVER_SPEC": orjson.dumps(payload(spec)).decode().replace("$(", "$$("),
        "BECALM_SECRET_DIR": SECRET_FOLDER,
        "BECALM_VOLUME": VOLUME_DEVICE if block else VOLUME_FOLDER,
        "BECALM_TERMINATION": TERMINATION,
    }
    container: Manifest = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": ["python", "-m", "becalm.mover"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "volumeMounts": mounts,
        "terminationMessagePath": TERMINATION,
        "resources": {"requests": {"cpu": "100m", "memory": requests}, "limits": {"memory": limits}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": list(READING if reading else WRITING)},
        },
    }
    if block:
        container["volumeDevices"] = [{"name": "volume", "devicePath": VOLUME_DEVICE}]
    return container


def _on_node(node: str) -> Manifest:
    """Bind a pod to a node through the scheduler, which claims that wait for a consumer need; taints do not matter, the volume decides."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}},
        "tolerations": [{"operator": "Exists"}],
    }


class PodMover:
    """Movers as pods (the port `Mover`). A handle is the pod's name."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        image: str,
        policy: str,
        start_timeout_seconds: float = 600,
        keep_log: Callable[[str, list[bytes]], None] | None = None,
    ) -> None:
        """Take what every mover of a policy shares; `keep_log` is given a mover's log before its pod is removed."""
        self._cluster = cluster
        self._clock = clock
        self._image = image
        self._policy = policy
        self._start_timeout = start_timeout_seconds
        self._keep_log = keep_log
        self._progress: dict[str, tuple[float, str]] = {}
        """When the progress of a mover is to be read again, and what it was."""

    def start(self, spec: MoverSpec) -> str:
        """Create the pod, or adopt the one that this run made before; one that failed or is going makes room for a new one.

        Raises: AlreadyExists (a pod of that name belongs to something else), MoverFailed (an old pod does not go away).
        """
        wanted = mover_pod(spec, image=self._image, policy=self._policy)
        deadline = Deadline(self._clock, GONE_SECONDS)
        while True:
            try:
                self._cluster.apply(POD, wanted, verb=Verb.CREATE)
            except AlreadyExists:
                if self._adopt(spec):
                    return spec.name
            else:
                return spec.name
            if deadline.passed():
                raise MoverFailed("the pod of an earlier try does not go away", where=f"pods/{spec.namespace}/{spec.name}")
            self._clock.sleep(PAUSE_SECONDS)

    def _adopt(self, spec: MoverSpec) -> bool:
        """Say whether the pod that stands there is good for this run; remove it if it was and is spent."""
        found = self._find(spec.name, namespace=spec.namespace)
        if found is None:
            return False
        if (found["metadata"].get("labels") or {}).get(LABEL_RUN) != spec.run:
            where = f"pods/{spec.namespace}/{spec.name}"
            raise AlreadyExists("a pod of that name stands there and is not this run's", where=where, hint="remove it")
        going = bool(found["metadata"].get("deletionTimestamp"))
        if not going and (found.get("status") or {}).get("phase") != "Failed":
            return True
        if not going:
            self._remove(found)
        return False

    def poll(self, handle: str, *, namespace: str) -> MoverStatus:
        """Say where it is, what it said last, and why it waits or failed."""
        pod = self._find(handle, namespace=namespace)
        if pod is None:
            return MoverStatus(state=MoverState.GONE, reason="the pod is gone")
        phase = (pod.get("status") or {}).get("phase")
        if phase == "Succeeded":
            return MoverStatus(state=MoverState.SUCCEEDED)
        if phase == "Failed":
            return MoverStatus(state=MoverState.FAILED, reason=failure_of(pod) or "the pod failed and says nothing")
        if phase == "Running":
            return MoverStatus(state=MoverState.RUNNING, progress=self._last_word(handle, namespace))
        return self._waiting(pod)

    def result(self, handle: str, *, namespace: str) -> MoverResult | None:
        """Read the termination message."""
        pod = self._find(handle, namespace=namespace)
        return None if pod is None else _result_in(pod)

    def cancel(self, handle: str, *, namespace: str) -> None:
        """Keep the log, end the pod and wait a while until it is gone: only then can its volume be mounted elsewhere."""
        self._progress.pop(handle, None)
        pod = self._find(handle, namespace=namespace)
        if pod is None:
            return
        if self._keep_log is not None:
            self._keep_log(handle, self._log(handle, namespace))
        self._remove(pod)
        deadline = Deadline(self._clock, GONE_SECONDS)
        while self._is_there(pod) and not deadline.passed():
            self._clock.sleep(PAUSE_SECONDS)

    def _find(self, name: str, *, namespace: str) -> Manifest | None:
        try:
            return self._cluster.get(POD, name, namespace=namespace)
        except NotFound:
            return None

    def _is_there(self, pod: Manifest) -> bool:
        metadata = pod["metadata"]
        found = self._find(metadata["name"], namespace=metadata["namespace"])
        return found is not None and found["metadata"]["uid"] == metadata["uid"]

    def _remove(self, pod: Manifest) -> None:
        metadata = pod["metadata"]
        self._cluster.delete(POD, metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"], grace_seconds=GRACE_SECONDS)

    def _log(self, handle: str, namespace: str) -> list[bytes]:
        """Read the log; a container that has not begun has none."""
        try:
            return list(self._cluster.logs(namespace, handle, container=CONTAINER))
        except BecalmError:
            return []

    def _last_word(self, handle: str, namespace: str) -> str:
        """Return the last line of progress. A log is read whole, so a long one is read seldom."""
        due, word = self._progress.get(handle, (0.0, ""))
        began = self._clock.monotonic()
        if began >= due:
            word = last_progress(self._log(handle, namespace)) or word
            ended = self._clock.monotonic()
            self._progress[handle] = (ended + max(PROGRESS_SECONDS, 20 * (ended - began)), word)
        return word

    def _waiting(self, pod: Manifest) -> MoverStatus:
        reason, hopeless = waits_for(pod)
        age = (self._clock.now() - parse_time(pod["metadata"]["creationTimestamp"])).total_seconds()
        if not reason or reason == "ContainerCreating":
            reason = self._last_warning(pod) or reason or "not scheduled yet"
        if hopeless and age > HOPELESS_AFTER_SECONDS:
            return MoverStatus(state=MoverState.FAILED, reason=reason)
        if age > self._start_timeout:
            return MoverStatus(state=MoverState.FAILED, reason=f"it did not start within {self._start_timeout:g} s: {reason}")
        return MoverStatus(state=MoverState.WAITING, reason=reason)

    def _last_warning(self, pod: Manifest) -> str:
        """Return what the cluster complained of last about this pod, or about the volume that it waits for: that stands nowhere else."""
        metadata = pod["metadata"]
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"]["volumes"] if "persistentVolumeClaim" in volume]
        meant = [f"involvedObject.uid={metadata['uid']}"]
        meant += [f"involvedObject.kind=PersistentVolumeClaim,involvedObject.name={claim}" for claim in claims]
        return next((told for what in meant if (told := self._complaint(metadata["namespace"], what))), "")

    def _complaint(self, namespace: str, about: str) -> str:
        """Return the last warning about an object. A cluster that does not answer has none."""
        try:
            events = list(self._cluster.list(EVENT, namespace=namespace, fields=f"{about},type=Warning"))
        except BecalmError:
            return ""
        last = max(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default=None)
        return f"{last.get('reason')}: {last.get('message')}" if last else ""


def waits_for(pod: Manifest) -> tuple[str, bool]:
    """Say what a pending pod waits for, and whether waiting is hopeless. Pure."""
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting:
            reason = str(waiting.get("reason") or "")
            return ": ".join(part for part in (reason, str(waiting.get("message") or "")) if part), reason in HOPELESS
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason')}: {condition.get('message')}", False
    return "", False


def failure_of(pod: Manifest) -> str:
    """Say why a pod failed: the mover's own word, the kernel's, or the kubelet's. Pure."""
    status = pod.get("status") or {}
    ended = _terminated(pod)
    result = _result_in(pod)
    if result is not None and result.error:
        return result.error
    if ended.get("reason") == "OOMKilled":
        limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory", "its limit")
        return f"OOMKilled: the mover needed more memory than {limit}"
    if status.get("reason"):
        return f"{status['reason']}: {status.get('message') or ''}".rstrip(": ")
    if ended:
        said = str(ended.get("message") or ended.get("reason") or "").strip()
        return f"exit code {ended.get('exitCode')}" + (f": {said[-500:]}" if said else "")
    return ""


def last_progress(lines: list[bytes]) -> str:
    """Return the last line that tells of progress, as the mover wrote it: `{"progress": …}`. Pure."""
    for line in reversed(lines):
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(document, dict) and "progress" in document:
            told = document["progress"]
            return ", ".join(f"{key} {value}" for key, value in told.items()) if isinstance(told, dict) else str(told)
    return ""


def _terminated(pod: Manifest) -> dict[str, Any]:
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        if container.get("name") == CONTAINER:
            return (container.get("state") or {}).get("terminated") or {}
    return {}


def _result_in(pod: Manifest) -> MoverResult | None:
    try:
        document = orjson.loads(str(_terminated(pod).get("message") or ""))
        return from_payload(MoverResult, document)
    except (orjson.JSONDecodeError, PermanentError):
        return None
