"""What a run leaves for those who look later: its record in the history, and the schedule that the policy has now.

Both are for knowing. Where they cannot be written the run goes on and says so: a recovery point never fails for its record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.catalog import epochs
from becalm.catalog.history import RunRecord, record
from becalm.errors import BecalmError
from becalm.repository.reader import open_repository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from becalm.actions.handover import Begun, Committed, Ports, Thawed, Verdict
    from becalm.catalog.epochs import Epoch
    from becalm.policy.spec import ProtectionPolicy


def note_schedule(policy: ProtectionPolicy, ports: Ports) -> tuple[Epoch, ...]:
    """Write the policy's schedule down where it is a new one: from now on its slots are owed. Return all schedules that are known."""
    try:
        return epochs.note(ports.store, schedule=policy.spec.schedule, timezone=policy.spec.timezone, now=ports.store.now())
    except BecalmError as error:
        ports.progress(f"since when the schedule holds could not be written down: {error}")
        return ()


def keep_record(
    begun: Begun,
    verdict: Verdict,
    *,
    committed: Committed | None,
    thaws: Sequence[Thawed],
    tasks: Mapping[str, float],
    ports: Ports,
) -> None:
    """Write what the run came to into the history."""
    kept = RunRecord(
        run=begun.run,
        run_id=begun.run_id,
        trigger=begun.trigger.value,
        started=begun.started,
        ended=ports.store.now(),
        slot=begun.slot,
        late_seconds=begun.late_seconds,
        ok=verdict.ok,
        point=verdict.point,
        complete=committed is not None and committed.complete,
        consistency=committed.consistency.value if committed else "",
        reasons=verdict.reasons,
        objects=committed.objects if committed else 0,
        volumes=committed.volumes if committed else 0,
        bytes_total=committed.bytes_total if committed else 0,
        bytes_added=committed.bytes_added if committed else 0,
        frozen={thawed.application: thawed.frozen_seconds for thawed in thaws},
        tasks=dict(tasks),
        label=begun.label,
        note=begun.note,
    )
    try:
        record(open_repository(ports.store, ports.password), kept)
    except BecalmError as error:
        ports.progress(f"the run could not be written into the history: {error}")
