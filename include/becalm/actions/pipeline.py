"""The whole procedure in one process, for the command line: the same verbs that the DAG conducts, in the same order.

What Airflow does by its graph is done here by `finally`: whatever happens after `begin`, every application is thawed, what is
temporary goes, and the lease is let go.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.actions import asked as asked_for
from becalm.actions import commit, discover, export, prune, quiesce, run, snapshot, upload
from becalm.actions.asked import NOTHING_ASKED
from becalm.actions.handover import Trigger
from becalm.errors import BecalmError, LeaseLost, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from becalm.actions.asked import Asked
    from becalm.actions.handover import (
        Application,
        Begun,
        Committed,
        Cut,
        Discovered,
        Exported,
        FreezeRecord,
        Ports,
        Pruned,
        Thawed,
        Verdict,
    )
    from becalm.model import MoverResult
    from becalm.policy.spec import ProtectionPolicy

SIDE_BY_SIDE = 8
"""How many applications are frozen and cut at the same time."""


@dataclass(slots=True)
class Story:
    """What has happened so far in one run: enough for `finish` whenever it ends."""

    begun: Begun
    discovered: Discovered | None = None
    records: list[FreezeRecord] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    thaws: list[Thawed] = field(default_factory=list)
    exports: list[Exported] = field(default_factory=list)
    results: list[MoverResult] = field(default_factory=list)
    committed: Committed | None = None
    pruned: Pruned | None = None
    failed: dict[str, BecalmError] = field(default_factory=dict)
    """Applications that were not captured, or not thawed for certain, and why."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each task took that came to its end."""

    @contextmanager
    def timed(self, task: str, ports: Ports) -> Iterator[None]:
        """Note how long a task takes."""
        began = ports.clock.monotonic()
        yield
        self.seconds[task] = ports.clock.monotonic() - began


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to."""

    begun: Begun
    verdict: Verdict | None
    """None where the slot was answered already."""
    committed: Committed | None = None
    pruned: Pruned | None = None


def protect(policy: ProtectionPolicy, *, run_id: str, ports: Ports, slot: datetime | None = None, asked: Asked = NOTHING_ASKED) -> Outcome:
    """Make one recovery point. Raises what `begin` raises; whatever goes wrong later is raised after everything was cleaned up.

    What the cleaning could not do is added to the error as notes.
    """
    begun = run.begin(policy, run_id=run_id, trigger=Trigger.MANUAL, run_after=ports.clock.now(), ports=ports, slot=slot, asked=asked)
    if begun.skipped:
        return Outcome(begun=begun, verdict=None)
    story = Story(begun)
    try:
        _capture(story, policy, ports)
    except BaseException as error:
        _finish_after(error, story, policy, ports)
        raise
    verdict = _finish(story, policy, ports)
    return Outcome(begun=begun, verdict=verdict, committed=story.committed, pruned=story.pruned)


def _capture(story: Story, policy: ProtectionPolicy, ports: Ports) -> None:
    ports.progress("discover: resolving the selection")
    followed = asked_for.followed(policy, story.begun)
    with story.timed("discover", ports):
        story.discovered = discover.execute(followed, ports)
    applications = story.discovered.applications
    with ThreadPoolExecutor(max_workers=min(SIDE_BY_SIDE, max(1, len(applications)))) as pool:
        list(pool.map(lambda application: _protect_one(application, story, followed, ports), applications))
    if not story.cuts:
        raise _gravest(story.failed)
    ports.progress("export: making the cuts readable")
    with story.timed("export", ports):
        story.exports = export.execute(story.cuts, story.begun, policy, ports)
    specs = upload.prepare(story.exports, story.begun, policy, ports)
    ports.progress(f"upload: {len(specs)} volumes")
    with story.timed("upload", ports):
        story.results = upload.execute(specs, story.begun, ports)
    ports.progress("commit: joining and checking")
    with story.timed("commit", ports):
        story.committed = commit.execute(
            story.begun,
            discovered=story.discovered,
            cuts=story.cuts,
            thaws=story.thaws,
            exports=story.exports,
            results=story.results,
            policy=policy,
            ports=ports,
            failures={name: told(error) for name, error in story.failed.items()},
        )
    ports.progress("prune: what retention says")
    with story.timed("prune", ports):
        story.pruned = prune.execute(story.begun, policy, ports)


def _protect_one(application: Application, story: Story, policy: ProtectionPolicy, ports: Ports) -> None:
    """Freeze, cut and thaw one application; its failure is its own, and is named."""
    try:
        ports.progress(f"quiesce: {application.name}")
        record = quiesce.execute(application, story.begun, policy, ports)
        story.records.append(record)
        cut: Cut | None = None
        try:
            ports.progress(f"snapshot: {application.name}")
            cut = snapshot.execute(application, record, story.begun, policy, ports)
            story.cuts.append(cut)
        finally:
            story.thaws.append(quiesce.thaw(application, record, cut, story.begun, policy, ports))
    except LeaseLost:
        raise
    except BecalmError as error:
        story.failed[application.name] = error


def told(error: BaseException) -> str:
    """Say an error with all that was noted beside it, in one line."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


def _gravest(failed: dict[str, BecalmError]) -> BecalmError:
    """Return the error that a run without any captured application ends with: one that trying again does not mend, if there is one."""
    first = min(failed, key=lambda name: isinstance(failed[name], TransientError))
    for name, error in failed.items():
        if name != first:
            failed[first].add_note(f"{name}: {told(error)}")
    return failed[first]


def _finish_after(error: BaseException, story: Story, policy: ProtectionPolicy, ports: Ports) -> None:
    """Clean up after an error, and note beside it what that did not achieve."""
    try:
        verdict = _finish(story, policy, ports)
    except BecalmError as second:
        error.add_note(f"cleaning up: {told(second)}")
        return
    for reason in verdict.reasons:
        if reason != run.NOTHING:
            error.add_note(reason)
    if story.committed:
        error.add_note(f"recovery point {story.committed.point[:8]} was written")


def _finish(story: Story, policy: ProtectionPolicy, ports: Ports) -> Verdict:
    ports.progress("finish: removing what is temporary, verifying")
    return run.finish(
        story.begun,
        applications=story.discovered.applications if story.discovered else (),
        records=story.records,
        cuts=story.cuts,
        thaws=story.thaws,
        committed=story.committed,
        tasks=story.seconds,
        policy=policy,
        ports=ports,
    )
