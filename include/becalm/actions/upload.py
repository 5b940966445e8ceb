"""One mover per volume, side by side. The data goes from the mover to the bucket; here only identifiers pass."""

from __future__ import annotations

import re
from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson

from becalm.actions import credentials, run
from becalm.clock import Deadline, format_time
from becalm.errors import BecalmError, MoverFailed, NotFound, PermanentError, TransientError
from becalm.kube.base import MoverState, MoverStatus
from becalm.model import Direction, MoverResult, MoverSpec, VolumeRef, from_payload
from becalm.repository.format import Layout
from becalm.repository.snapshots import load_snapshot
from becalm.repository.tree import lookup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.actions.handover import Begun, Exported, Ports
    from becalm.clock import Clock
    from becalm.kube.base import Mover
    from becalm.policy.spec import ProtectionPolicy

POLL_SECONDS = 0.5
RENEW_SECONDS = 60.0
SILENT_SECONDS = 600.0
"""For how long the cluster may answer nothing while movers work: they need it for nothing but their start."""


def mover_name(run_key: str, volume: VolumeRef, claim: str) -> str:
    """Return a pod's name for a volume: readable, and unique by a digest of the whole reference and of what is read.

    A second try of a run that cuts anew reads another claim: it must never take up what a mover made of the first cut.
    """
    readable = re.sub(r"[^a-z0-9-]+", "-", f"{volume.namespace}-{volume.claim}".lower())[:30].strip("-")
    return f"becalm-{run_key}-{readable}-{sha256(f'{volume}@{claim}'.encode()).hexdigest()[:8]}"


def plan(exported: Sequence[Exported], begun: Begun, policy: ProtectionPolicy, *, parents: Mapping[VolumeRef, str]) -> list[MoverSpec]:
    """Describe a mover for every volume that can be read. Pure.

    Inode and ctime always count: where an export does not keep them, a file is read once more, and none is ever missed.
    """
    lock = policy.spec.target.lock
    return [
        MoverSpec(
            name=mover_name(begun.run, export.volume, export.claim),
            run=begun.run,
            direction=Direction.BACK_UP,
            volume=export.volume,
            namespace=export.namespace,
            claim=export.claim,
            mode=export.mode,
            node=export.node,
            repository=policy.spec.target.repository_url(policy.name),
            secret=credentials.secret_name(begun.run),
            epoch=begun.epoch,
            parent=parents.get(export.volume, ""),
            stable_inodes=True,
            lock_days=lock.days if lock else 0,
            lock_mode=lock.mode.value if lock else "",
        )
        for export in exported
        if not export.error
    ]


def prepare(exported: Sequence[Exported], begun: Begun, policy: ProtectionPolicy, ports: Ports) -> list[MoverSpec]:
    """Look up what the parent recovery point holds of each volume, put the credentials beside the movers, and plan."""
    run.renew(begun, ports)
    readable = [export for export in exported if not export.error]
    for namespace in sorted({export.namespace for export in readable}):
        credentials.ensure(begun.policy, begun.run, namespace, ports)
    return plan(readable, begun, policy, parents=_parents(begun, [export.volume for export in readable], ports))


def _parents(begun: Begun, volumes: Sequence[VolumeRef], ports: Ports) -> dict[VolumeRef, str]:
    if not begun.parent or not volumes:
        return {}
    repository = run.open_same(begun, ports)
    _, document = load_snapshot(repository, begun.parent)
    found: dict[VolumeRef, str] = {}
    for volume in volumes:
        try:
            found[volume] = lookup(repository, document.tree, f"volumes/{volume}").subtree or ""
        except NotFound:
            continue
    return found


def execute(specs: Sequence[MoverSpec], begun: Begun, ports: Ports) -> list[MoverResult]:
    """Start every mover (or adopt it), not more at once than the settings allow, wait for all, and collect what they left in the bucket.

    A mover that fails does not stop the others: its result carries the error. Raises: LeaseLost, ClusterUnavailable (it answers
    nothing for ten minutes), and what the store raises.
    """
    movers = ports.movers
    if movers is None:
        raise PermanentError("there is nothing to run movers with", where=f"run {begun.run}", hint="pass a Mover in the ports")
    reasons: dict[str, str] = {}
    queue, waiting = deque(specs), dict[str, MoverSpec]()
    deadline, renewal = Deadline(ports.clock, ports.settings.mover_timeout_seconds), Deadline(ports.clock, RENEW_SECONDS)
    eyes = _Eyes(movers, ports.clock)
    while (queue or waiting) and not deadline.passed():
        while queue and len(waiting) < max(1, ports.settings.movers_at_once):
            reasons |= _start(spec := queue.popleft(), movers)
            waiting |= {spec.name: spec} if spec.name not in reasons else {}
        for name, spec in list(waiting.items()):
            status = eyes.look(spec)
            if status.state in (MoverState.WAITING, MoverState.RUNNING):
                ports.progress(
                    f"{spec.volume}: {status.progress or status.reason or status.state}",
                    done=len(specs) - len(waiting) - len(queue),
                    total=len(specs),
                )
                continue
            reasons[name] = _last_word(movers, spec) or status.reason
            del waiting[name]
        if renewal.passed():
            run.renew(begun, ports)
            renewal = Deadline(ports.clock, RENEW_SECONDS)
        ports.clock.sleep(POLL_SECONDS if waiting else 0)
    for spec in queue:
        reasons[spec.name] = "it was not started: the movers before it took all the time"
    for name, spec in waiting.items():
        movers.cancel(name, namespace=spec.namespace)
        reasons[name] = f"not done within {ports.settings.mover_timeout_seconds:.0f} s; started before {format_time(ports.clock.now())}"
    return collect(specs, ports, reasons=reasons)


def _start(spec: MoverSpec, movers: Mover) -> dict[str, str]:
    """Start one; return why it could not be."""
    try:
        movers.start(spec)
    except BecalmError as error:
        return {spec.name: f"{error.code}: {error}"}
    return {}


class _Eyes:
    """Asks where movers are. A cluster that does not answer for a while stops none of them."""

    def __init__(self, movers: Mover, clock: Clock) -> None:
        self._movers = movers
        self._clock = clock
        self._silence = Deadline(clock, SILENT_SECONDS)

    def look(self, spec: MoverSpec) -> MoverStatus:
        """Return a mover's state. Raises what the cluster raises, if it is transient only after all patience."""
        try:
            status = self._movers.poll(spec.name, namespace=spec.namespace)
        except TransientError as error:
            if self._silence.passed():
                raise
            return MoverStatus(state=MoverState.WAITING, reason=str(error))
        self._silence = Deadline(self._clock, SILENT_SECONDS)
        return status


def _last_word(movers: Mover, spec: MoverSpec) -> str:
    """Return the error that a mover left as its last word: a store that is full takes no result."""
    try:
        result = movers.result(spec.name, namespace=spec.namespace)
    except BecalmError:
        return ""
    return result.error if result else ""


def collect(specs: Sequence[MoverSpec], ports: Ports, *, reasons: Mapping[str, str] | None = None) -> list[MoverResult]:
    """Read every mover's result from the bucket; one that left none gets a result that says so."""
    return [_result(spec, ports, (reasons or {}).get(spec.name, "")) for spec in specs]


def _result(spec: MoverSpec, ports: Ports, reason: str) -> MoverResult:
    try:
        found = from_payload(MoverResult, orjson.loads(ports.store.get(Layout.run_result(spec.run, spec.name))))
    except NotFound:
        failed = MoverFailed("the mover left no result" + (f": {reason}" if reason else ""), where=str(spec.volume))
        return MoverResult(name=spec.name, run=spec.run, volume=spec.volume, error=f"{failed.code}: {failed.message}")
    except (BecalmError, ValueError) as error:
        return MoverResult(name=spec.name, run=spec.run, volume=spec.volume, error=f"the mover's result cannot be read: {error}")
    return found
