"""What blueprints keep beside the volumes: fetched from the containers once they are thawed, streamed into the repository.

A tree of `blueprints/…`, `dumps/…` and `overlays/…` comes of it, which the commit joins to the recovery point; what lies over a volume is
there laid into the volume's own tree, so that every restore finds it in its place. A command that fails leaves no file. Nothing is frozen or
thawed here, and nothing that fails here stops the capture: it is a finding, and where the blueprint promised a label, the label is lower.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from becalm.actions import hooks, members, pods
from becalm.actions.fetch import Fetched, Into, fetch
from becalm.actions.handover import FreezeOutcome
from becalm.errors import BecalmError, NotFound
from becalm.kube import exec as command_exec
from becalm.model import Consistency, Finding, VolumeRef, VolumeUse
from becalm.quiesce.deadman import as_user
from becalm.repository.overlay import lay
from becalm.repository.reader import open_repository
from becalm.repository.tree import TreeBuilder, lookup
from becalm.repository.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from becalm.actions.handover import Application, Cut, FreezeRecord, Ports
    from becalm.actions.pods import Place
    from becalm.quiesce.blueprint import Recipe
    from becalm.repository.format import BlobId
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository

SIDE_BY_SIDE = 4
DONE_SECONDS = 30.0
OVERLAYS = "overlays"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Of which containers something is kept, by which recipe, and whose pods are not there."""

    places: tuple[tuple[Place, Recipe], ...] = ()
    missing: tuple[Finding, ...] = ()


def plan(application: Application, record: FreezeRecord, ports: Ports) -> Plan:
    """Say what is to be fetched: of each container that was frozen, and of those of hooks that only keep something."""
    found = [
        (pods.Place(hook=item.hook, pod=item.pod, uid=item.uid, container=item.container), recipe)
        for item in record.frozen
        if item.outcome is FreezeOutcome.FROZEN and (recipe := hooks.recipe(item.hook)).keeps
    ]
    missing: list[Finding] = []
    claims = frozenset(volume.volume for volume in application.volumes)
    for hook in application.hooks:
        recipe = hooks.recipe(hook)
        if recipe.freezes or not recipe.keeps:
            continue
        resolved = members.choose(pods.places(hook, claims, ports.cluster), ports.cluster, ports.clock)
        found += [(place, recipe) for place in resolved.places]
        missing += [
            Finding(where=miss.where, message=f"nothing is kept of it: {miss.message}", remedy=miss.hint) for miss in resolved.missing
        ]
    return Plan(places=tuple(found), missing=tuple(missing))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What came of it: a tree of what was fetched, what was not, and why the label is lower for it."""

    tree: str = ""
    packs: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    reasons: tuple[str, ...] = ()


def execute(application: Application, record: FreezeRecord, cut: Cut, ports: Ports, *, until: datetime | None) -> Kept:
    """Fetch what is kept of an application. The thaw must be over. Raises what cluster and store raise."""
    decided = plan(application, record, ports)
    if not decided.places:
        return Kept(findings=decided.missing)
    repository = open_repository(ports.store, ports.password)
    with Writer(repository, retain_until=until) as writer:
        into = _into(application, cut, writer, ports)
        with ThreadPoolExecutor(max_workers=min(SIDE_BY_SIDE, len(decided.places)), thread_name_prefix="keep") as pool:
            answers = list(pool.map(lambda pair: _of_one(pair[0], pair[1], into), decided.places))
        entries, doubled = _distinct(answers)
        builder = TreeBuilder(mtime=ports.clock.now())
        for path, node in entries.items():
            builder.add_node(path, node)
        tree = builder.write(writer) if entries else ""
        written = writer.flush()
    froze = [answer for answer, (_, recipe) in zip(answers, decided.places, strict=True) if recipe.freezes]
    return Kept(
        tree=tree,
        packs=written.packs,
        findings=(*decided.missing, *doubled, *(finding for answer in answers for finding in answer.findings)),
        reasons=tuple(f"{finding.where}: {finding.message}" for answer in froze for finding in answer.findings),
    )


def _distinct(answers: Sequence[Fetched]) -> tuple[dict[str, Node], list[Finding]]:
    """Return what came by its path. Two hooks that keep the same are told."""
    entries: dict[str, Node] = {}
    doubled: list[Finding] = []
    for path, node in (entry for answer in answers for entry in answer.entries):
        if path in entries:
            doubled.append(Finding(where=path, message="two hooks keep this, and only one is kept", remedy="remove one of the hooks"))
        else:
            entries[path] = node
    return entries, doubled


def onto(cut: Cut, kept: Kept) -> Cut:
    """Return a cut with what was kept beside it. Its label is lower where something lacks that a restore would need. Pure."""
    thawed = cut.thawed
    if thawed and kept.reasons:
        thawed = replace(thawed, consistency=Consistency.CRASH, reasons=(*thawed.reasons, *kept.reasons))
    packs, findings = (*cut.packs, *kept.packs), (*cut.findings, *kept.findings)
    return replace(cut, thawed=thawed, kept_tree=kept.tree, packs=packs, findings=findings)


def _into(application: Application, cut: Cut, writer: Writer, ports: Ports) -> Into:
    """Say over which volumes something may lie: those of which a snapshot was cut, while the freeze held."""
    within = {item.plan.volume for item in cut.volumes if item.plan.use is VolumeUse.SNAPSHOT and not item.error}
    elsewhere = {item.volume for item in application.volumes} - within
    broken = frozenset(cut.thawed.broken) if cut.thawed else frozenset()
    return Into(usable=frozenset(within), passed_over=frozenset(elsewhere), broken=broken, writer=writer, ports=ports)


def _of_one(place: Place, recipe: Recipe, into: Into) -> Fetched:
    """Fetch everything of one container, and tell it that we are done. All of an overlay is there, or nothing of the container."""
    try:
        found = [fetch(place, keep, into) for keep in recipe.keeps]
    finally:
        _done(place, recipe, into.ports)
    findings = tuple(finding for one in found for finding in one.findings)
    overlaid = f"{OVERLAYS}/"
    entries = [(path, node) for one in found for path, node in one.entries if not (findings and path.startswith(overlaid))]
    return Fetched(entries=tuple(entries), findings=findings)


def _done(place: Place, recipe: Recipe, ports: Ports) -> None:
    """End what lived on for us. It would end by itself, so that it cannot be told is nobody's harm."""
    if not recipe.done:
        return
    try:
        command_exec.run(
            ports.cluster,
            ports.clock,
            namespace=place.hook.namespace,
            pod=place.pod,
            container=place.container,
            command=as_user(place.hook.user, recipe.done),
            timeout_seconds=DONE_SECONDS,
        )
    except BecalmError as error:
        ports.progress(f"{place}: it could not be told that all is kept: {error}")


def over(repository: Repository, writer: Writer, tree: BlobId, volume: VolumeRef, cuts: Sequence[Cut]) -> BlobId:
    """Return a volume's tree with what is kept over it; the tree itself where there is nothing. Raises: Damaged."""
    for cut in cuts:
        if not cut.kept_tree:
            continue
        try:
            upper = lookup(repository, cut.kept_tree, f"{OVERLAYS}/{volume}").subtree
        except NotFound:
            continue
        tree = lay(repository, writer, tree, upper)
    return tree
