"""How far the replacing of a claim's data is: one mark on the claim itself, so that whoever comes next goes on from there.

All of it is pure, but `write` and `forget`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import orjson

from becalm.actions.restore_steps import VolumeAction
from becalm.errors import Conflict
from becalm.kube.base import ANNOTATION_IN_PLACE, ANNOTATION_RESTORED_FROM, Verb
from becalm.kube.kinds import CLAIM
from becalm.kube.rules import ANNOTATION_FILLED, FILL_PENDING, child

if TYPE_CHECKING:
    from becalm.kube.base import Cluster
    from becalm.model import Manifest


class Stage(StrEnum):
    """How far it is."""

    NONE = ""
    BEGUN = "begun"
    """What mounts the claim is being stopped; the old data is untouched."""
    WRITING = "writing"
    """The claim holds neither the old data nor the new; the copy, if there is one, holds the old."""
    WRITTEN = "written"
    """The new data is whole; what was stopped is not started again yet."""
    DONE = "done"
    """The new data is whole, and what was stopped runs; the copy stays until the restore is confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What stands on a claim."""

    policy: str = ""
    point: str = ""
    tree: str = ""
    run: str = ""
    stage: Stage = Stage.NONE
    copy: str = ""
    """The VolumeSnapshot that holds the old data; empty where none was wanted, or none is made yet."""

    @classmethod
    def of(cls, claim: Manifest) -> Mark:
        """Read the mark of a claim; one that cannot be read is none."""
        text = child(claim, "metadata", "annotations").get(ANNOTATION_IN_PLACE)
        try:
            found = orjson.loads(text) if text else {}
            return cls(**{**found, "stage": Stage(found.get("stage", ""))}) if found else cls()
        except (ValueError, TypeError, AttributeError):
            return cls()

    def encode(self) -> str:
        """Write it as it stands on a claim."""
        return orjson.dumps(self).decode()

    @property
    def is_whole(self) -> bool:
        """Whether the new data is there."""
        return self.stage in (Stage.WRITTEN, Stage.DONE)

    def speaks_of(self, point: str, tree: str) -> bool:
        """Whether it tells of this very data."""
        return bool(self.stage) and (self.point, self.tree) == (point, tree)

    def going_on(self, *, policy: str, point: str, tree: str, run: str) -> Mark:
        """Return the mark with which a restore begins. What another one left half written keeps the copy of what was there before it."""
        if self.stage is Stage.WRITING or (self.stage is Stage.WRITTEN and self.speaks_of(point, tree)):
            return replace(self, policy=policy, point=point, tree=tree, run=run)
        return Mark(policy=policy, point=point, tree=tree, run=run, stage=Stage.BEGUN)


def write(cluster: Cluster, claim: Manifest, mark: Mark) -> Mark:
    """Put a mark onto a claim. Once its data is whole the claim also says from where it was restored. Raises: Conflict (another uid), NotFound."""
    marks = {ANNOTATION_IN_PLACE: mark.encode()}
    if mark.is_whole:
        marks |= {ANNOTATION_RESTORED_FROM: mark.point, ANNOTATION_FILLED: mark.tree}
    metadata = {key: claim["metadata"][key] for key in ("name", "namespace", "uid")} | {"annotations": marks}
    cluster.apply(CLAIM, {"apiVersion": CLAIM.api_version, "kind": CLAIM.kind, "metadata": metadata}, verb=Verb.MERGE)
    return mark


def forget(cluster: Cluster, claim: Manifest) -> None:
    """Take the mark off a claim. Raises: Conflict (another uid), NotFound."""
    metadata = {key: claim["metadata"][key] for key in ("name", "namespace", "uid")} | {"annotations": {ANNOTATION_IN_PLACE: None}}
    cluster.apply(CLAIM, {"apiVersion": CLAIM.api_version, "kind": CLAIM.kind, "metadata": metadata}, verb=Verb.MERGE)


def fate(claim: Manifest, *, point: str, tree: str) -> tuple[VolumeAction, str] | None:
    """Say what becomes of the data of a claim that exists, where it may be replaced. None: it waits for its first data, as any new claim. Pure."""
    mark, annotations = Mark.of(claim), child(claim, "metadata", "annotations")
    if annotations.get(ANNOTATION_RESTORED_FROM) == point and annotations.get(ANNOTATION_FILLED) == FILL_PENDING:
        return None
    if not tree:
        return VolumeAction.KEEP, "the point holds no data of it"
    if mark.speaks_of(point, tree):
        if mark.stage is Stage.DONE:
            return (
                VolumeAction.KEEP,
                "its data was replaced from this point already; becalm confirm accepts it, and only then it can be again",
            )
        unfinished = "start again what it stopped" if mark.stage is Stage.WRITTEN else "finish it"
        return VolumeAction.REPLACE, f"an interrupted restore did not {unfinished}"
    if mark.stage is Stage.WRITING:
        return VolumeAction.REPLACE, f"its data is replaced: a restore of point {mark.point[:8]} left it half written"
    return VolumeAction.REPLACE, "its data is replaced, as asked for"


def demand_settled(claim: Manifest) -> None:
    """Raise Conflict where a restore has not finished with a claim: what it stopped may not run, and its copy may be all there is of the old data."""
    if Mark.of(claim).stage not in (Stage.NONE, Stage.DONE):
        where = f"volumes/{claim['metadata']['namespace']}/{claim['metadata']['name']}"
        raise Conflict("a restore has not finished replacing its data", where=where, hint="run that restore again; then confirm")
