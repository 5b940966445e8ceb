"""Make each cut readable in Becalm's own namespace: the same snapshot bound a second time, and a temporary claim made from it.

The application's namespace sees nothing of it. A volume that is read live is exported as what it is: its own claim, on its node.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from becalm.actions.handover import Exported
from becalm.errors import BecalmError, LeaseLost, NotFound
from becalm.kube.base import owned_by
from becalm.kube.kinds import SNAPSHOT_CONTENT
from becalm.kube.snapshots import bind
from becalm.model import VolumeUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from becalm.actions.handover import Begun, Cut, Ports, VolumeCut
    from becalm.policy.spec import ProtectionPolicy

EXPORTS_AT_ONCE = 16
ROLE = "export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What will be bound, under which names, and what needs no binding."""

    bindings: tuple[tuple[VolumeCut, str], ...]
    live: tuple[Exported, ...] = ()


def plan(cuts: Sequence[Cut], begun: Begun) -> Plan:
    """Decide what is bound. Pure. A volume without a cut is not here: its cut has said why."""
    volumes = [volume for cut in cuts for volume in cut.volumes if not volume.error]
    live = [
        Exported(
            volume=item.plan.volume,
            use=VolumeUse.LIVE,
            namespace=item.plan.volume.namespace,
            claim=item.plan.volume.claim,
            mode=item.plan.mode,
            node=item.plan.node,
        )
        for item in volumes
        if item.plan.use is VolumeUse.LIVE
    ]
    bindings = [(item, _name(begun, item)) for item in volumes if item.plan.use is VolumeUse.SNAPSHOT]
    return Plan(bindings=tuple(bindings), live=tuple(live))


def _name(begun: Begun, item: VolumeCut) -> str:
    return f"becalm-{begun.run}-{sha256(f'{item.plan.volume}@{item.snapshot}'.encode()).hexdigest()[:8]}"


def execute(cuts: Sequence[Cut], begun: Begun, policy: ProtectionPolicy, ports: Ports) -> list[Exported]:  # noqa: ARG001  (each verb is called alike)
    """Bind all cuts side by side and wait until each can be read. One that cannot is named in its `Exported`; the others go on. Idempotent."""
    decided = plan(cuts, begun)
    if not decided.bindings:
        return list(decided.live)
    with ThreadPoolExecutor(max_workers=min(EXPORTS_AT_ONCE, len(decided.bindings)), thread_name_prefix="export") as pool:
        bound = list(pool.map(lambda pair: _bind(pair[0], pair[1], begun, ports), decided.bindings))
    return sorted([*decided.live, *bound], key=lambda item: item.volume)


def _bind(item: VolumeCut, name: str, begun: Begun, ports: Ports) -> Exported:
    """Bind one cut; that it cannot be read is an answer."""
    planned = item.plan
    try:
        bound = bind(
            ports.cluster,
            ports.clock,
            volume=planned.volume,
            handle=item.handle or _handle(item, ports),
            driver=planned.driver,
            snapshot_class=planned.snapshot_class,
            storage_class=planned.storage_class,
            mode=planned.mode,
            size_bytes=planned.size_bytes,
            namespace=ports.settings.namespace,
            name=name,
            labels=owned_by(begun.policy, begun.run, ROLE, repository=ports.store.url),
            timeout_seconds=ports.settings.export_timeout_seconds,
        )
    except LeaseLost:
        raise
    except BecalmError as error:
        return Exported(volume=planned.volume, use=planned.use, mode=planned.mode, error=str(error))
    return Exported(volume=planned.volume, use=planned.use, namespace=bound.namespace, claim=bound.claim, mode=bound.mode)


def _handle(item: VolumeCut, ports: Ports) -> str:
    """Ask again for a handle that was not known when the cut was reported."""
    try:
        content = ports.cluster.get(SNAPSHOT_CONTENT, item.content) if item.content else {}
    except NotFound:
        return ""
    return str((content.get("status") or {}).get("snapshotHandle") or "")
