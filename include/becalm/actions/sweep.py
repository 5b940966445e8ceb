"""The end of everything temporary: what a run left in the cluster is found by its label and removed, wherever it is.

It touches nothing that does not carry the label of a run of that very policy into that very repository. What the runs of another policy, or of
another installation, made is not its business, and neither is the thaw.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from becalm.actions import credentials
from becalm.errors import NotFound
from becalm.kube.base import LABEL_MANAGED, LABEL_POLICY, LABEL_REPOSITORY, LABEL_ROLE, LABEL_RUN, MANAGER, ROLE_RESTORE, repository_mark
from becalm.kube.kinds import CLAIM, GROUP_SNAPSHOT, POD, SECRET, SNAPSHOT, SNAPSHOT_CONTENT
from becalm.kube.snapshots import discard
from becalm.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from becalm.actions.handover import Ports
    from becalm.kube.base import Kind
    from becalm.model import Manifest

KINDS = (POD, CLAIM, SNAPSHOT, SNAPSHOT_CONTENT, GROUP_SNAPSHOT, SECRET)
WAIT_SECONDS = 60.0


def sweep(policy: str, ports: Ports, *, run: str = "", keep_run: str = "") -> tuple[Finding, ...]:
    """Remove what one run left, or all runs of the policy but one; say what is still there. Idempotent.

    Without `run`, the caller must hold the policy's lease: then no other run of it lives. Raises: AccessDenied, and what is transient.
    """
    findings: list[Finding] = []
    for key in sorted({run} if run else runs(policy, ports) - {keep_run}):
        credentials.remove(policy, key, ports)
        left = discard(ports.cluster, ports.clock, run=key, namespace=ports.settings.namespace, timeout_seconds=WAIT_SECONDS)
        findings += [
            Finding(
                where=str(ref),
                message=f"a temporary object of run {key} is still there",
                remedy="the next run tries again; see its finalizers",
            )
            for ref in left
        ]
    return tuple(findings)


def survey(ports: Ports) -> dict[str, frozenset[str]]:
    """Return the keys of all runs that have left something, by whose they are: one LIST per kind, however many policies there are."""
    found: dict[str, set[str]] = defaultdict(set)
    for item in chain.from_iterable(_left(kind, "", ports) for kind in KINDS):
        labels = item["metadata"].get("labels") or {}
        found[_whose(labels.get(LABEL_POLICY, ""), labels.get(LABEL_REPOSITORY, ""))].add(labels.get(LABEL_RUN, ""))
    return {whose: frozenset(keys - {""}) for whose, keys in found.items()}


def of_policy(left: Mapping[str, frozenset[str]], policy: str, ports: Ports) -> frozenset[str]:
    """Return what a survey found of the runs of one policy into its own repository."""
    return left.get(_whose(policy, repository_mark(ports.store.url)), frozenset())


def _whose(policy: str, mark: str) -> str:
    return f"{policy} {mark}"


def runs(policy: str, ports: Ports) -> set[str]:
    """Return the keys of the policy's runs that have left something. Restores are not runs: they hold no lease, and clear up themselves."""
    ours = f",{LABEL_POLICY}={policy},{LABEL_REPOSITORY}={repository_mark(ports.store.url)}"
    left = chain.from_iterable(_left(kind, ours, ports) for kind in KINDS)
    return {(item["metadata"].get("labels") or {}).get(LABEL_RUN, "") for item in left} - {""}


def _left(kind: Kind, labels: str, ports: Ports) -> Iterator[Manifest]:
    """Yield the temporary objects of a kind; a cluster that does not serve it has none."""
    try:
        yield from ports.cluster.list(kind, labels=f"{LABEL_MANAGED}={MANAGER},{LABEL_ROLE}!={ROLE_RESTORE}{labels}")
    except NotFound:
        return
