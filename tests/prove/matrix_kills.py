"""What is killed, and how it comes back: processes of this machine, pods of the cluster, and the storage's driver.

The cluster is one that `cluster up` starts again (BECALM_CLUSTER_TOOL, or `../shared/cluster/cluster`): the ids of its parts stand in
`run/NAME.pid` beside its kubeconfig. What kills a part of the cluster hits every scene at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from becalm.errors import BecalmError
from becalm.kube.base import LABEL_ROLE, LABEL_RUN
from becalm.kube.kinds import POD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.prove.matrix_scene import Run, Scene

TOOL = Path(os.environ.get("BECALM_CLUSTER_TOOL") or Path(__file__).parents[3] / "shared" / "cluster" / "cluster")
UP_SECONDS = 240


class Step(StrEnum):
    """Where a run is, between its beginning and what follows the thaw."""

    BEFORE = "before it is armed"
    FREEZING = "armed, freezing"
    FROZEN = "frozen"
    CUTTING = "cutting"
    THAWING = "thawing"
    AFTER = "after the thaw"


OPEN = (Step.FREEZING, Step.FROZEN, Step.CUTTING, Step.THAWING)
"""Between freeze and thaw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One thing that dies. `hit` says whether it met anything; `mend` puts it back, and is called so many seconds later."""

    name: str
    told: str
    hit: Callable[[Scene, Run], bool]
    mend: Callable[[Scene, Run], None]
    mend_after_seconds: float = 0.0
    shared: bool = False
    """It hits every scene at once."""
    steps: tuple[Step, ...] = tuple(Step)


def _worker(_: Scene, run: Run) -> bool:
    return _kill(run.process.pid, signal.SIGKILL)


def _pause(_: Scene, run: Run) -> bool:
    return _kill(run.process.pid, signal.SIGSTOP)


def _continue(_: Scene, run: Run) -> None:
    _kill(run.process.pid, signal.SIGCONT)


def _hook(scene: Scene, _: Run) -> bool:
    """Kill the shell of the exec that arms or thaws, and none of what it has started."""
    found = [pid for pid in _of_pod(scene.pod_uid()) if b"\0becalm-quiesce\0" in _command(pid)]
    return _kill_each(found)


def _shim(scene: Scene, _: Run) -> bool:
    """Kill containerd's shim: the parent of the pod's processes."""
    parents = {_parent(pid) for pid in _of_pod(scene.pod_uid())}
    return _kill_each([pid for pid in parents if b"containerd-shim" in _command(pid)])


def _pod(scene: Scene, _: Run) -> bool:
    gone = False
    for pod in list(scene.cluster.list(POD, namespace=scene.name, labels="app=matrix")):
        gone |= scene.cluster.delete(POD, pod["metadata"]["name"], namespace=scene.name, grace_seconds=0)
    return gone


def _mover(scene: Scene, run: Run) -> bool:
    """Kill the movers' processes as the kernel would."""
    pods = scene.cluster.list(POD, labels=f"{LABEL_RUN}={scene.key(run.run_id)},{LABEL_ROLE}=mover")
    processes = [pid for pod in pods for pid in _of_pod(pod["metadata"]["uid"]) if b"becalm.mover" in _command(pid)]
    return _kill_each(processes)


def _part(*names: str) -> Callable[[Scene, Run], bool]:
    def kill(scene: Scene, _: Run) -> bool:
        folder = Path(scene.variables["KUBECONFIG"]).parent / "run"
        return _kill_each([int((folder / f"{name}.pid").read_text().split()[0]) for name in names])

    return kill


def _faults(faults: dict[str, object]) -> Callable[[Scene, Run], bool]:
    def ask(_: Scene, __: Run) -> bool:
        set_faults(faults)
        return True

    return ask


def _no_faults(_: Scene, __: Run) -> None:
    set_faults({})


def set_faults(faults: dict[str, object]) -> None:
    """Ask the storage for trouble; nothing ends it."""
    subprocess.run([str(TOOL), "faults", json.dumps(faults)], check=True)


def cluster_up(*_: object) -> None:
    """Start again whatever part of the cluster does not run. Raises: RuntimeError."""
    done = subprocess.run([str(TOOL), "up"], capture_output=True, text=True, timeout=UP_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"cluster up: {done.stderr[-500:]}")


def _nothing(*_: object) -> None:
    """Leave it to the cluster: it starts by itself what it runs."""


def _kill(pid: int, how: signal.Signals) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
        return True
    return False


def _kill_each(pids: Sequence[int]) -> bool:
    """Kill them all; say whether any was there."""
    return [_kill(pid, signal.SIGKILL) for pid in pids].count(True) > 0


def _of_pod(uid: str) -> Iterator[int]:
    """Yield the processes of a pod, by their control groups."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if f"pod{uid}" in (folder / "cgroup").read_text():
                    yield int(folder.name)


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


TOO_LATE = 14.0
"""So much later than the kill, the switch has fired long ago."""
KINDS = {
    kind.name: kind
    for kind in (
        Kind(name="worker", told="the process of the run, SIGKILL", hit=_worker, mend=_nothing),
        Kind(
            name="pause",
            told="the process of the run, SIGSTOP, and SIGCONT 14 s later",
            hit=_pause,
            mend=_continue,
            mend_after_seconds=TOO_LATE,
        ),
        Kind(name="hook", told="the shell of the exec", hit=_hook, mend=_nothing, steps=(Step.FREEZING, Step.FROZEN, Step.THAWING)),
        Kind(name="shim", told="containerd's shim of the pod", hit=_shim, mend=_nothing),
        Kind(name="pod", told="the application's pod, deleted", hit=_pod, mend=_nothing),
        Kind(name="mover", told="the movers", hit=_mover, mend=_nothing, steps=(Step.AFTER,)),
        Kind(name="apiserver", told="kube-apiserver", hit=_part("kube-apiserver"), mend=cluster_up, shared=True),
        Kind(
            name="apiserver-long",
            told="kube-apiserver, away for 9 s",
            hit=_part("kube-apiserver"),
            mend=cluster_up,
            mend_after_seconds=9.0,
            shared=True,
        ),
        Kind(name="kubelet", told="the kubelet", hit=_part("kubelet"), mend=cluster_up, mend_after_seconds=4.0, shared=True),
        Kind(
            name="driver",
            told="the CSI driver with its side cars",
            hit=_part("csi-driver", "csi-snapshotter", "csi-provisioner"),
            mend=cluster_up,
            mend_after_seconds=9.0,
            shared=True,
        ),
        Kind(
            name="hang",
            told="CreateSnapshot hangs",
            hit=_faults({"hang_snapshots": True}),
            mend=_no_faults,
            mend_after_seconds=9.0,
            shared=True,
        ),
        Kind(
            name="fail",
            told="CreateSnapshot fails",
            hit=_faults({"fail_snapshots": 1000}),
            mend=_no_faults,
            mend_after_seconds=9.0,
            shared=True,
        ),
    )
}
"""What dies, by name."""


def absent() -> str:
    """Say what is missing for kills on a cluster; nothing where all is there."""
    needed = ("KUBECONFIG", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "BECALM_MOVER_IMAGE")
    missing = [name for name in needed if not os.environ.get(name)]
    if missing:
        return f"not set: {', '.join(missing)}"
    if os.geteuid() != 0:
        return "only root may kill what runs in pods"
    state = Path(os.environ["KUBECONFIG"]).parent
    if not (TOOL.exists() and (state / "run" / "kubelet.pid").exists()):
        return "the cluster is none that can be killed and started again here (BECALM_CLUSTER_TOOL)"
    return ""


def movers_run(scene: Scene, run: Run) -> bool:
    """Say whether a mover of a run is at work; where the cluster does not say, not."""
    try:
        pods = list(scene.cluster.list(POD, labels=f"{LABEL_RUN}={scene.key(run.run_id)},{LABEL_ROLE}=mover"))
    except BecalmError:
        return False
    return any((pod.get("status") or {}).get("phase") == "Running" for pod in pods)
