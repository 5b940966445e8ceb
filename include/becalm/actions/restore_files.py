"""Single files or folders of a recovery point into a claim that is in use: beside what is there, by a mover on the node of its pod.

Nothing is stopped and nothing is removed; a file of the same name is replaced, and that is said before. No link within the volume is
followed on the way to the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  (pydantic resolves the annotations at run time)
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.actions import credentials
from becalm.actions.pulse import Pulse
from becalm.actions.restore_scaling import mounting
from becalm.actions.restore_steps import RestorePlan, VolumeAction, VolumeStep
from becalm.actions.restore_volumes import Filling, clear
from becalm.catalog.points import find, points
from becalm.errors import MoverFailed, NotFound, RestoreRefused, UsageError
from becalm.kube.kinds import CLAIM
from becalm.kube.rules import child
from becalm.model import Direction, MoverSpec, VolumeMode, VolumeRef, run_key
from becalm.repository.reader import open_repository
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.handover import Ports
    from becalm.model import MoverResult

RUN_PREFIX = "restore-"
VOLUMES = "volumes/"
ALONE = "ReadWriteOncePod"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesPlan:
    """Which files go where."""

    policy: str
    point: str
    cut: datetime
    tree: str
    paths: tuple[str, ...]
    """As the point has them: `volumes/shop/data/orders.db`."""
    target: VolumeRef
    into: str
    """The folder within the volume; empty is its root."""
    node: str
    """The node of a pod that mounts the claim; empty where none does."""

    @property
    def run(self) -> str:
        """The key of this restore: the same files into the same place have the same."""
        return RUN_PREFIX + run_key(self.policy, "\0".join([self.point, str(self.target), self.into, *self.paths]))


def read_into(text: str) -> tuple[VolumeRef, str]:
    """Read `shop/data` or `shop/data:inner/folder`. Raises UsageError."""
    volume, _, folder = text.partition(":")
    try:
        target = VolumeRef.parse(volume)
    except ValueError as error:
        raise UsageError(str(error), where="--into", hint="write it like shop/data, or shop/data:inner/folder") from error
    if ".." in folder.split("/"):
        raise UsageError(f"{folder!r} leads out of the volume", where="--into", hint="name a folder within it")
    return target, folder.strip("/")


def prepare(policy: str, point: str, paths: Sequence[str], into: str, ports: Ports) -> FilesPlan:
    """Find the files and the claim. Nothing is written. Raises: UsageError, PointMissing, NotFound (a file, the claim), RestoreRefused."""
    target, folder = read_into(into)
    repository = open_repository(ports.store, ports.password)
    found = find(points(repository, policy), point, now=ports.clock.now())
    wanted = tuple(path.strip("/") for path in paths)
    for path in wanted:
        if not path.startswith(VOLUMES):
            raise UsageError(f"{path!r} is no file of a volume", where="--file", hint="name it as volumes/shop/data/orders.db")
        lookup(repository, found.tree, path)
    names = [path.rpartition("/")[2] for path in wanted]
    if len(set(names)) < len(names):
        raise UsageError("two of the files have the same name", where="--file", hint="restore them one after the other")
    claim = _claim(target, ports)
    spec = child(claim, "spec")
    where = f"volumes/{target}"
    if spec.get("volumeMode") == VolumeMode.BLOCK:
        raise RestoreRefused("is a block volume, and holds no files", where=where, hint="restore the whole volume with --in-place")
    pods = mounting(ports.cluster, target.namespace, frozenset({target.claim}))
    if pods and ALONE in (spec.get("accessModes") or []):
        raise RestoreRefused(
            f"only the pod {pods[0]['metadata']['name']} may mount it", where=where, hint="stop that pod, or restore into another claim"
        )
    node = next((str(pod["spec"]["nodeName"]) for pod in pods if child(pod, "spec").get("nodeName")), "")
    return FilesPlan(policy=policy, point=found.id, cut=found.cut, tree=found.tree, paths=wanted, target=target, into=folder, node=node)


def _claim(target: VolumeRef, ports: Ports) -> dict[str, object]:
    try:
        return ports.cluster.get(CLAIM, target.claim, namespace=target.namespace)
    except NotFound as error:
        raise NotFound("the claim is not there", where=f"volumes/{target}", hint="restore it first: becalm restore --volume") from error


def execute(plan: FilesPlan, ports: Ports) -> MoverResult:
    """Write the files. Idempotent. Raises: MoverFailed (with what was not written), and what the ports raise."""
    step = VolumeStep(volume=plan.target, target=plan.target, action=VolumeAction.FILL, reason="files were asked for")
    around = RestorePlan(
        policy=plan.policy, point=plan.point, tree=plan.tree, cut=plan.cut, consistency="", complete=True, steps=(), volumes=(step,)
    )
    namespace = plan.target.namespace
    pulse = Pulse(run=plan.run, namespaces=(namespace,), since=ports.clock.monotonic())
    filling = Filling(plan=around, run=plan.run, ports=ports, pulse=pulse)
    spec = MoverSpec(
        name=f"becalm-{plan.run}-{sha256(str(plan.target).encode()).hexdigest()[:10]}",
        run=plan.run,
        direction=Direction.RESTORE,
        volume=plan.target,
        namespace=namespace,
        claim=plan.target.claim,
        node=plan.node,
        repository=ports.store.url,
        secret=credentials.secret_name(plan.run),
        tree=plan.tree,
        include=plan.paths,
        into=plan.into,
    )
    try:
        filling.lend(namespace)
        result = filling.move(spec, step, lambda: None)
    finally:
        clear(around, plan.run, ports)
    wrong = result.error or "; ".join(map(str, result.unreadable))
    if wrong:
        raise MoverFailed(
            f"the files were not all restored: {wrong}", where=f"volumes/{plan.target}", hint="mend what is named, and do it again"
        )
    return result
