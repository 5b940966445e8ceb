"""Prove it: crashes, interleavings, mutations and real kills, in the counts that a release must reach: `make prove`.

    python -m tests.prove.run [--only crashes,interleavings,mutations,kills,freezes,restores] [--quick] [--processes 2]

It uses every processor and takes up to half an hour; then the kill matrix takes as long again, where there is a cluster that may be killed
(`matrix.py`). What each kind came to is kept in docs/proof/, and docs/PROOF.md is written from what is there; `--quick` writes nothing. The
exit code is 1 where something did not hold, or a count was not reached. What fails is printed so that it can be repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from random import Random

import becalm
from becalm.testing.casts import CASTS
from becalm.testing.enumerator import WAYS, enumerate_crashes
from becalm.testing.interleaver import Chooser, Theatre, by_lot, following, shrink, sleepers
from becalm.testing.mutator import Findings, examine, mutations, specimens
from becalm.testing.scenarios import SCENARIOS
from tests.prove import kills, matrix, matrix_kills, restore_kills
from tests.prove.matrix_scene import TIMEOUT_SECONDS

PAGE = Path(__file__).parents[2] / "docs" / "PROOF.md"
KEPT = PAGE.parent / "proof"
"""What each kind came to when it was tried last: KIND.json."""
PARTS = 6
"""A scenario's crashes are shared out among so many jobs."""
PAIRS = 12
"""So many sampled pairs of faults in each of them."""
PLAYS = 400
"""So many interleavings are one job."""
RANDOM_PLAYS = (14_000, 14_000, 8_000, 14_000, 8_000, 3_000)
"""So many by lot of each cast: the short ones oftener."""
SLEEPERS = {0: 1, 1: 1, 2: 1, 3: 4, 4: 5, 5: 170}
"""Of the schedules of sleepers of each cast, every so manieth: of two actors all of them."""
MUTATION_PARTS = 8
KEEP_ONE_OF = (1, 1, 4, 4)
"""Of each specimen's mutations, every so manieth."""
FREEZES, SCENES = 210, 5
RESTORES = 50
KILLED = {"backup": 12, "restore": 10, "prune": 10}
WANTED = {"crashes": 10_000, "interleavings": 100_000, "mutations": 100_000, "kills": 30, "freezes": 200, "restores": 50}
KINDS = tuple(WANTED)


@dataclass(slots=True)
class Count:
    """What one kind of trial came to."""

    tried: int = 0
    bad: list[str] = field(default_factory=list)
    said: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    """Of all processes together."""
    note: str = ""
    date: str = ""

    def add(self, other: Count) -> None:
        """Take in the count of another job."""
        self.tried += other.tried
        self.bad += other.bad
        self.seconds += other.seconds
        for what, number in other.said.items():
            self.said[what] = self.said.get(what, 0) + number


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A piece of work for one process."""

    kind: str
    which: int = 0
    part: int = 0
    count: int = 0
    name: str = ""
    quick: bool = False


def jobs(only: tuple[str, ...], *, quick: bool) -> Iterator[Job]:
    """Yield all there is to do, the longest first."""
    if "kills" in only:
        yield from (Job(kind="kills", name=name, count=2 if quick else count) for name, count in KILLED.items())
    if "crashes" in only:
        yield from (
            Job(kind="crashes", which=which, part=part, quick=quick)
            for which in range(len(SCENARIOS))
            for part in range(1 if quick else PARTS)
        )
    if "interleavings" in only:
        for which, plays in enumerate(RANDOM_PLAYS):
            wanted = plays // 200 if quick else plays
            yield from (
                Job(kind="interleavings", which=which, part=begin, count=min(PLAYS, wanted - begin)) for begin in range(0, wanted, PLAYS)
            )
        yield from (
            Job(kind="sleepers", which=which, part=part, quick=quick) for which in SLEEPERS for part in range(1 if quick else PARTS)
        )
    if "mutations" in only:
        parts = 1 if quick else MUTATION_PARTS
        yield from (
            Job(kind="mutations", which=which, part=part, quick=quick) for which in range(len(KEEP_ONE_OF)) for part in range(parts)
        )


def crashes(job: Job) -> Count:
    """Stop one scenario at its share of calls."""
    every = 60 if job.quick else PARTS
    tally = enumerate_crashes(SCENARIOS[job.which], every=every, offset=job.part, pairs=1 if job.quick else PAIRS, seed=job.part)
    return Count(tried=tally.points, bad=[str(bad) for bad in tally.bad], said={"pairs of faults": tally.pairs})


def interleavings(job: Job) -> Count:
    """Play one cast by lot."""
    lots = (by_lot(Random(f"{job.which} {seed}")) for seed in range(job.part, job.part + job.count))
    return _play(job, lots)


def asleep(job: Job) -> Count:
    """Play a cast by its share of the schedules of sleepers."""
    schedules = sleepers(len(CASTS[job.which].actors))
    every = SLEEPERS[job.which] * (101 if job.quick else PARTS)
    return _play(job, (following(schedule) for schedule in islice(schedules, job.part * SLEEPERS[job.which], None, every)))


def _play(job: Job, choosers: Iterator[Chooser]) -> Count:
    cast = CASTS[job.which]
    world = cast.world()
    count = Count()
    seen: set[int] = set()
    with Theatre() as theatre:
        for choose in choosers:
            played = theatre.play(cast, world, choose)
            count.tried += 1
            seen.add(hash(played.schedule))
            if played.problem:
                shorter = shrink(theatre, cast, world, played.schedule[: played.chosen])
                count.bad.append(f"{cast.name}, schedule {list(shorter)}: {played.problem}")
    count.said = {"different orders": len(seen)}
    return count


def mutate(job: Job) -> Count:
    """Damage one repository in its share of ways."""
    specimen = next(islice(specimens(), job.which, None))
    every = 500 if job.quick else KEEP_ONE_OF[job.which] * MUTATION_PARTS
    findings = Findings()
    for mutation in islice(mutations(specimen), job.part * KEEP_ONE_OF[job.which], None, every):
        examine(specimen, mutation, findings)
    bad = [f"wrong: {line}" for line in findings.wrong] + [f"unnamed: {line}" for line in findings.unnamed]
    return Count(tried=findings.tried, bad=bad, said={"restores refused by name": findings.refused})


def kill(job: Job) -> Count:
    """Kill real processes."""
    if kills.absent():
        return Count(note=kills.absent())
    found = kills.kill(job.name, job.count)
    return Count(tried=found.done, bad=found.bad, said={"met the process at work": found.in_time})


DO: dict[str, Callable[[Job], Count]] = {
    "crashes": crashes,
    "interleavings": interleavings,
    "sleepers": asleep,
    "mutations": mutate,
    "kills": kill,
}


def do(job: Job) -> Count:
    """Do one job; what it raises is bad news too."""
    began = time.monotonic()
    try:
        count = DO[job.kind](job)
    except Exception:  # noqa: BLE001  one job that breaks must not cost the others
        count = Count(bad=[f"{job}: {traceback.format_exc(limit=-4)}"])
    count.seconds = time.monotonic() - began
    return count


def prove(only: tuple[str, ...], *, quick: bool, processes: int) -> dict[str, Count]:
    """Do all of it and return the counts."""
    counts = {kind: Count() for kind in only}
    began = told = time.monotonic()
    with ProcessPoolExecutor(max_workers=processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(do, job): job for job in jobs(only, quick=quick)}
        for number, done in enumerate(as_completed(waiting), 1):
            job, count = waiting[done], done.result()
            total = counts["interleavings" if job.kind == "sleepers" else job.kind]
            total.add(count)
            total.note = total.note or count.note
            for line in count.bad[:5]:
                print(f"BAD  {job.kind}: {line}", flush=True)
            if time.monotonic() - told > 20 or number == len(waiting):
                told = time.monotonic()
                state = ", ".join(f"{kind} {count.tried} ({len(count.bad)} bad)" for kind, count in counts.items())
                print(f"{told - began:5.0f} s  {number} of {len(waiting)} jobs: {state}", flush=True)
    if "freezes" in only:  # alone on the machine: it measures time
        counts["freezes"] = freezes(quick=quick)
    if "restores" in only:
        counts["restores"] = restores(quick=quick)
    return counts


def freezes(*, quick: bool) -> Count:
    """Kill what stands around a freeze, on a real cluster."""
    if matrix_kills.absent():
        return Count(note=matrix_kills.absent())
    began = time.monotonic()
    tally = matrix.prove(tuple(matrix_kills.KINDS.values()), kills=20 if quick else FREEZES, scenes=SCENES)
    note = (
        f"{tally.while_open:,} between freeze and thaw; longest freeze {tally.longest:.1f} s, the timeout is {TIMEOUT_SECONDS:.0f} s; "
        f"{tally.torn:,} torn pairs, each in a point that says so"
    )
    return Count(tried=tally.done, bad=tally.bad, note=note, seconds=time.monotonic() - began)


def restores(*, quick: bool) -> Count:
    """Kill `becalm restore`, on a real cluster."""
    if restore_kills.absent():
        return Count(note=restore_kills.absent())
    began = time.monotonic()
    tally = restore_kills.prove(2 if quick else RESTORES)
    said = {"kept as unfinished": tally.unfinished, "more that had ended before": tally.late}
    return Count(tried=tally.done, bad=tally.bad, said=said, seconds=time.monotonic() - began)


TOLD = {
    "crashes": "crash points: each call of each scenario, with each fault",
    "interleavings": "interleavings of writers, prunes and sleepers",
    "mutations": "mutations of stored objects",
    "kills": "real kills (SIGKILL) of movers and of prunes, on a real S3 server",
    "freezes": "real kills around a freeze, on a real cluster: the run, its exec, shim, pod, movers, kube-apiserver, kubelet, storage",
    "restores": "real kills (SIGKILL) of `becalm restore`, on a real cluster, and the same command once more",
}
BAD = {
    "crashes": "not whole, lost, or in need of a person",
    "interleavings": "dangling references",
    "mutations": "wrong bytes, or damage not named",
    "kills": "not whole, left alive, or not repeatable",
    "freezes": "frozen too long, a false label, or something left behind",
    "restores": "another end state, a duplicate, or something left behind",
}


def keep(counts: dict[str, Count]) -> None:
    """Keep what was tried, in place of what was tried before."""
    KEPT.mkdir(exist_ok=True)
    for kind, count in counts.items():
        count.date = f"{datetime.now(UTC):%Y-%m-%d}"
        (KEPT / f"{kind}.json").write_text(json.dumps(asdict(count), indent=1) + "\n")


def kept() -> dict[str, Count]:
    """Return what each kind came to, as far as it was ever tried."""
    files = {kind: KEPT / f"{kind}.json" for kind in KINDS}
    return {kind: Count(**json.loads(file.read_text())) for kind, file in files.items() if file.exists()}


def page(counts: dict[str, Count]) -> str:
    """Return the document."""
    table = [
        f"| {TOLD[kind]} | {count.tried:,} | {WANTED[kind]:,} | {len(count.bad)} ({BAD[kind]}) | "
        f"{count.note or ', '.join(f'{number:,} {what}' for what, number in count.said.items())} | {count.date}, {count.seconds / 60:.0f} min |"
        for kind, count in counts.items()
    ]
    ways = ", ".join(f"{name}{'' if every == 1 else f' (after one stop in {every})'}" for name, (_, every) in WAYS.items())
    return "\n".join(
        [
            "# Proof",
            "",
            "Written by `make prove`; not by hand.",
            "",
            "| what | tried | wanted | bad | | when, and the time of all processes together |",
            "|---|---|---|---|---|---|",
            *table,
            "",
            f"After each crash point Becalm goes on in these ways, each from the same state: {ways}.",
            "A stop with two faults is a crash point too; the pairs are drawn by lot.",
            "",
            "## Scenarios of the crash points",
            "",
            *(f"- {scenario.name}" for scenario in SCENARIOS),
            "",
            "## Casts of the interleavings",
            "",
            *(f"- {cast.name}" for cast in CASTS),
            "",
            "## To repeat it",
            "",
            f"`make prove`: Becalm {becalm.__version__}, Python {platform.python_version()}, {platform.system()}, {os.cpu_count()} processors.",
            "The kills need AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of an S3 server.",
            "",
        ]
    )


def main() -> int:
    """Prove, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--processes", type=int, default=max(2, os.cpu_count() or 2))
    given = parser.parse_args()
    only = tuple(kind for kind in KINDS if kind in given.only.split(","))
    counts = prove(only, quick=given.quick, processes=given.processes)
    print("\n" + "\n".join(line for line in page(counts).splitlines() if line.startswith("|")))
    short = [kind for kind, count in counts.items() if count.tried < WANTED[kind] and not given.quick]
    bad = [kind for kind, count in counts.items() if count.bad]
    if not given.quick:
        keep(counts)
        PAGE.write_text(page(kept()))
    for kind in short:
        print(f"not reached: {kind}: {counts[kind].note or counts[kind].tried}")
    return 1 if bad or short else 0


if __name__ == "__main__":
    sys.exit(main())
