"""How policies stand, as metrics: computed from the catalog, so that no restart loses them. prometheus-client writes the text.

Everything is a gauge that is true now. What is not known has no sample, which is not the same as zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.actions.objectives import Level, SlotState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from prometheus_client import Metric

    from becalm.actions.objectives import PolicyStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value of a metric."""

    value: float
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric with all its samples."""

    name: str
    help: str
    samples: tuple[Sample, ...]


HELP = {
    "becalm_policies": "Policies that can be followed.",
    "becalm_policies_broken": "Policy files that cannot be followed; nothing is protected by them.",
    "becalm_policy_reached": "1 if the policy's recovery points could be read.",
    "becalm_policy_level": "0 fine, 1 somebody should look, 2 trouble.",
    "becalm_policy_last_good_point_timestamp_seconds": "When the last good recovery point was cut.",
    "becalm_policy_last_good_point_age_seconds": "How old the last good recovery point is.",
    "becalm_policy_objective_seconds": "What the policy is measured by.",
    "becalm_policy_objective_met": "1 if the last good recovery point is young enough.",
    "becalm_policy_points": "Recovery points that can be restored, by whether they are good ones.",
    "becalm_policy_slots": "Slots of the last seven days, by what became of them.",
    "becalm_policy_next_slot_timestamp_seconds": "When the next recovery point is owed.",
    "becalm_policy_unknown": "Things about the policy that could not be read.",
    "becalm_point_bytes": "What the last good recovery point holds.",
    "becalm_repository_bytes": "All packs of the repository.",
    "becalm_run_success": "1 if the last run of the policy succeeded.",
    "becalm_run_end_timestamp_seconds": "When the last run ended.",
    "becalm_run_seconds": "How long the last run took.",
    "becalm_run_bytes": "What the last run captured, and what was new of it.",
    "becalm_task_seconds": "How long a task of the last run took.",
    "becalm_freeze_seconds": "How long an application was frozen in the last run.",
    "becalm_drill_success": "1 if the last drill succeeded.",
    "becalm_drill_timestamp_seconds": "When the last drill ended.",
    "becalm_drill_seconds": "The recovery time that the last drill measured.",
}
"""Every metric there is, with what it means."""

_LEVELS = {Level.FINE: 0, Level.WARNING: 1, Level.TROUBLE: 2}


def families(statuses: Sequence[PolicyStatus], *, broken: int = 0) -> tuple[Family, ...]:
    """Return all metrics of these policies. A metric without a sample is left out."""
    found: dict[str, list[Sample]] = {name: [] for name in HELP}
    found["becalm_policies"].append(Sample(value=len(statuses), labels={}))
    found["becalm_policies_broken"].append(Sample(value=broken, labels={}))
    for status in sorted(statuses, key=lambda one: one.policy):
        for name, value, labels in (*_of_policy(status), *_of_run(status), *_of_drill(status)):
            if value is not None and math.isfinite(value):
                found[name].append(Sample(value=value, labels={"policy": status.policy, **labels}))
    return tuple(Family(name=name, help=HELP[name], samples=tuple(samples)) for name, samples in found.items() if samples)


_Said = tuple[str, "float | None", dict[str, str]]


def _of_policy(status: PolicyStatus) -> Iterator[_Said]:
    good = status.last_good
    yield "becalm_policy_reached", float(status.reached), {}
    yield "becalm_policy_level", _LEVELS[status.level], {}
    yield "becalm_policy_unknown", len(status.unknown), {}
    yield "becalm_policy_objective_seconds", _seconds(status.rpo), {"objective": "rpo"}
    yield "becalm_policy_objective_seconds", _seconds(status.rto), {"objective": "rto"}
    yield "becalm_policy_next_slot_timestamp_seconds", _stamp(status.next_slot), {}
    if not status.reached:
        return
    yield "becalm_policy_last_good_point_timestamp_seconds", _stamp(good.cut if good else None), {}
    yield "becalm_policy_last_good_point_age_seconds", _seconds(status.age), {}
    yield "becalm_policy_objective_met", None if status.met is None else float(status.met), {}
    yield "becalm_policy_points", status.good, {"state": "good"}
    yield "becalm_policy_points", status.points - status.good, {"state": "other"}
    for state in SlotState:
        yield "becalm_policy_slots", status.count(state), {"state": state.value}
    yield "becalm_point_bytes", status.size_bytes, {}
    yield "becalm_repository_bytes", status.repository_bytes, {}


def _of_run(status: PolicyStatus) -> Iterator[_Said]:
    if not status.runs:
        return
    last = status.runs[0]
    yield "becalm_run_success", float(last.ok), {}
    yield "becalm_run_end_timestamp_seconds", _stamp(last.ended), {}
    yield "becalm_run_seconds", max(0.0, (last.ended - last.started).total_seconds()), {}
    yield "becalm_run_bytes", last.bytes_total, {"kind": "captured"}
    yield "becalm_run_bytes", last.bytes_added, {"kind": "added"}
    for task, seconds in sorted(last.tasks.items()):
        yield "becalm_task_seconds", seconds, {"task": task}
    for application, seconds in sorted(last.frozen.items()):
        yield "becalm_freeze_seconds", seconds, {"application": application}


def _of_drill(status: PolicyStatus) -> Iterator[_Said]:
    if status.drill is None:
        return
    yield "becalm_drill_success", float(status.drill.ok), {}
    yield "becalm_drill_timestamp_seconds", _stamp(status.drill.time), {}
    yield "becalm_drill_seconds", status.drill.seconds, {}


def render(found: Iterable[Family]) -> str:
    """Write metrics as Prometheus reads them (text format 0.0.4). Nothing of this process is among them."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415  (who asks for no metrics does not wait for it)

    registry = CollectorRegistry()
    registry.register(_Found(found=tuple(found)))
    return generate_latest(registry).decode()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """What prometheus-client collects from: families that were computed before."""

    found: tuple[Family, ...]

    def collect(self) -> Iterator[Metric]:
        """Yield each family as a gauge."""
        from prometheus_client import Metric  # noqa: PLC0415  (as above)

        for family in self.found:
            metric = Metric(family.name, family.help, "gauge")
            for sample in family.samples:
                metric.add_sample(family.name, dict(sample.labels), float(sample.value))
            yield metric


def _stamp(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def _seconds(length: timedelta | None) -> float | None:
    return length.total_seconds() if length is not None else None
