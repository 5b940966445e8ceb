"""The nouns of a rebuild: which policies are restored from which points and in which order, and what came of it. Frozen, printable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003  (pydantic resolves the annotations at run time)
from enum import StrEnum

from becalm.actions.rebuild_nodes import NodeChange, NodeFacts  # noqa: TC001  (pydantic resolves the annotations at run time)
from becalm.errors import PermanentError
from becalm.model import Finding  # noqa: TC001  (as above)


class Phase(StrEnum):
    """The phases, in their order. Each is done for all policies before the next begins."""

    CLUSTER = "cluster"
    """Definitions, and what else belongs to no namespace."""
    APPLICATIONS = "applications"
    """Namespaces with their data and workloads."""
    GATES = "gates"
    """APIServices, webhooks, admission policies: what guards the API, when all that serves them is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One policy of the target."""

    policy: str
    point: str
    cut: datetime
    cluster: str = ""
    complete: bool = True
    environment: str = ""
    namespaces: tuple[str, ...] = ()
    objects: int = 0
    volumes: int = 0
    bytes: int = 0
    cluster_kinds: tuple[str, ...] = ()
    """Kinds of the point's objects that belong to no namespace, but gates: `storageclasses.storage.k8s.io`."""
    gate_kinds: tuple[str, ...] = ()
    served: tuple[str, ...] = ()
    """The groups that were served when it was cut."""
    version: str = ""
    """The server's version then."""
    nodes: tuple[NodeFacts, ...] = ()
    outside: tuple[str, ...] = ()
    """What stood outside of the cluster, or was made by something outside: addresses, drivers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildPlan:
    """All that a rebuild would do, in its order."""

    target: str
    parts: tuple[Part, ...]
    nodes: tuple[NodeChange, ...] = ()
    """What would be put back on nodes, on request."""
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """What one phase did for one policy."""

    policy: str
    phase: Phase
    created: int = 0
    kept: int = 0
    volumes: int = 0
    bytes: int = 0
    seconds: float = 0.0
    failures: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What a rebuild came to. `ok` is judged from what was verified."""

    target: str
    parts: tuple[PartReport, ...] = ()
    nodes: int = 0
    unready: tuple[Finding, ...] = ()
    failures: tuple[Finding, ...] = ()
    seconds: float = 0.0

    @property
    def wrong(self) -> tuple[Finding, ...]:
        """Everything that is not as it should be."""
        return (*(failure for part in self.parts for failure in part.failures), *self.failures, *self.unready)

    @property
    def ok(self) -> bool:
        """Whether everything is there and ready."""
        return not self.wrong


def demand(report: RebuildReport) -> RebuildReport:
    """Return the report of a rebuild that is whole. Raises PermanentError with everything that is not."""
    if report.ok:
        return report
    raise PermanentError(
        f"{len(report.wrong)} parts of the rebuild failed: " + "; ".join(map(str, report.wrong)),
        where=report.target,
        hint="mend what is named and run the same command again: what is done already is kept",
    )
