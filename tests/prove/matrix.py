"""The kill matrix: whatever dies, at whatever step between freeze and thaw, on a real cluster.

    python -m tests.prove.matrix [--kills 200] [--kinds worker,shim,…] [--scenes 5] [--seed 0]

Each kill meets a `becalm run` in a process of its own. Then: the application says itself that it stood still no longer than its timeout and five
seconds; it goes on by itself, before anybody reaps; one reaper leaves nothing of the run; and a recovery point that came out of it says no more
than its two volumes show (`matrix_scene.py` has the rule). Kills of one scene's own parts go side by side in several namespaces; what kills a part of
the cluster (kube-apiserver, kubelet, the storage's driver) hits them all at once, and counts once for each. The step that a kill met is told by the
application's own times. It needs root on the machine of a cluster that `cluster up` starts again, and disturbs everybody on it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from becalm.errors import BecalmError
from becalm.kube import connect
from becalm.kube.kinds import NAMESPACE
from becalm.storage import open_store
from tests.e2e.airflow import connections
from tests.prove.kills import credentials, remove_bucket
from tests.prove.matrix_judge import judge
from tests.prove.matrix_kills import KINDS, OPEN, Kind, Step, absent, cluster_up, movers_run, set_faults
from tests.prove.matrix_scene import PASSWORD, Scene, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.prove.matrix_judge import Verdict
    from tests.prove.matrix_scene import Run

MEET_SECONDS = 90.0
UNDISTURBED = 2
"""So many runs of each scene at the end with a freeze, and so many without."""
DELAYS = {Step.BEFORE: 0.15, Step.FREEZING: 0.3, Step.FROZEN: 0.35, Step.CUTTING: 0.5, Step.THAWING: 0.2, Step.AFTER: 3.0}
"""By how much a kill may come after the sign of its step."""


@dataclass(slots=True)
class Tally:
    """What all kills came to."""

    kills: Counter[tuple[str, Step]] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    """Those that met nothing: the run was past that step."""
    bad: list[str] = field(default_factory=list)
    longest: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    torn: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def done(self) -> int:
        """How many kills met something."""
        return sum(self.kills.values())

    @property
    def while_open(self) -> int:
        """How many of them came between freeze and thaw."""
        return sum(number for (_, step), number in self.kills.items() if step in OPEN)

    def add(self, kind: Kind, step: Step, verdict: Verdict, where: str) -> None:
        """Take in one kill."""
        with self.lock:
            self.kills[kind.name, step] += 1
            self.longest = max(self.longest, verdict.frozen_seconds)
            self.labels.update(verdict.labels)
            self.torn += verdict.torn
            bad = [f"{kind.name} killed, {step} ({where}): {problem}" for problem in verdict.problems]
            self.bad += bad
        labels = ", ".join(verdict.labels) or "no point"
        say(f"{self.done:4} {kind.name:14} {step:20} frozen {verdict.frozen_seconds:4.1f} s  {labels}  {'BAD' if bad else ''}")
        for line in bad:
            say(f"BAD  {line}")


def say(text: str) -> None:
    """Tell whoever waits."""
    print(text, flush=True)


def step_of(scene: Scene, run: Run, moment: float) -> Step:
    """Say which step of a run a moment met, by the application's own times."""
    said = {stamp.word: stamp.said for stamp in reversed(scene.stamps(run))}  # the first of each word
    if moment < said.get("asked", moment + 1):
        return Step.BEFORE
    if moment < said.get("still", moment + 1):
        return Step.FREEZING
    if moment >= said.get("goes", moment + 1):
        return Step.AFTER
    if moment >= said.get("thaw", moment + 1):
        return Step.THAWING
    return Step.CUTTING if moment >= run.met.get("snapshot", moment + 1) else Step.FROZEN


def sign_of(step: Step, kind: Kind, scene: Scene, run: Run) -> bool:
    """Say whether the sign of a step is there."""
    if step is Step.BEFORE:
        return "quiesce" in run.look()
    if step is Step.CUTTING:
        return "snapshot" in run.look()
    if kind.name == "mover":
        return movers_run(scene, run)
    word = {Step.FREEZING: "asked", Step.FROZEN: "still", Step.THAWING: "thaw", Step.AFTER: "goes"}[step]
    run.look()
    return any(stamp.word == word for stamp in scene.stamps(run))


def met(look: Callable[[], bool], runs: Sequence[Run], *, pause: float) -> bool:
    """Wait for a sign while the runs go on."""
    deadline = time.monotonic() + MEET_SECONDS
    while not look():
        if time.monotonic() > deadline or all(run.ended for run in runs):
            return False
        time.sleep(pause)
    return True


def kill_one(scene: Scene, kind: Kind, step: Step, tally: Tally, lot: random.Random) -> None:
    """Let one scene meet one kill of its own."""
    run = scene.start()
    met(lambda: "loaded" in run.look(), [run], pause=0.05)
    run.go()
    there = met(lambda: sign_of(step, kind, scene, run), [run], pause=0.2 if kind.name == "mover" else 0.01)
    if there:
        time.sleep(lot.uniform(0, DELAYS[step]))
    hit = there and kind.hit(scene, run)
    moment = time.time()
    run.look()
    if kind.mend_after_seconds:
        time.sleep(kind.mend_after_seconds)
    kind.mend(scene, run)
    _conclude(scene, run, kind, moment, hit, tally)


def _conclude(scene: Scene, run: Run, kind: Kind, moment: float, hit: bool, tally: Tally) -> None:
    """Judge a scene, and count."""
    verdict = judge(scene, run)
    if hit:
        tally.add(kind, step_of(scene, run, moment), verdict, f"{run.run_id} in {scene.folder}")
        return
    with tally.lock:
        tally.missed[kind.name] += 1
        tally.bad += [f"{kind.name} met nothing ({run.run_id}): {problem}" for problem in verdict.problems]


def kill_all(scenes: Sequence[Scene], kind: Kind, step: Step, tally: Tally, lot: random.Random) -> None:
    """Let all scenes meet one kill of a part of the cluster: they begin at one time, and it comes when most of them are at its step."""
    runs = [scene.start() for scene in scenes]
    met(lambda: all("loaded" in run.look() for run in runs), runs, pause=0.05)
    for run in runs:
        run.go()
    met(lambda: sum(sign_of(step, kind, *pair) for pair in zip(scenes, runs, strict=True)) * 2 > len(runs), runs, pause=0.01)
    time.sleep(lot.uniform(0, DELAYS[step]))
    hit = kind.hit(scenes[0], runs[0])
    moment = time.time()
    for run in runs:
        run.look()
    time.sleep(kind.mend_after_seconds)
    kind.mend(scenes[0], runs[0])
    with ThreadPoolExecutor(len(scenes)) as pool:
        list(pool.map(lambda pair: _conclude(pair[0], pair[1], kind, moment, hit, tally), zip(scenes, runs, strict=True)))


@contextmanager
def stage(number: int, *, under_airflow: bool = False) -> Iterator[list[Scene]]:
    """Build so many scenes with a bucket and a namespace of Becalm's own, and take them down."""
    mark = uuid4().hex[:6]
    folder, bucket, own = Path(tempfile.mkdtemp(prefix="becalm-matrix-")), f"becalm-matrix-{mark}", f"becalm-matrix-{mark}"
    variables = environment(own)
    if under_airflow:
        variables |= connections(variables, password=PASSWORD)
    url = f"s3://{bucket}/prod"
    open_store(url, credentials(), create=True)
    cluster = connect(kubeconfig=variables["KUBECONFIG"])
    scenes = [
        Scene(
            cluster=cluster,
            store=lambda name=f"{own}-{index}": open_store(f"{url}/{name}", credentials()),
            name=f"{own}-{index}",
            folder=folder / str(index),
            variables=variables,
            image=variables["BECALM_MOVER_IMAGE"],
            url=url,
            together=index % 3 == 2,
            under_airflow=under_airflow,
        )
        for index in range(number)
    ]
    good = False
    try:
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(Scene.build, scenes))
        yield scenes
        good = True
    finally:
        for scene in scenes:
            scene.remove()
        try:
            cluster.delete(NAMESPACE, own)
        except BecalmError as error:
            say(f"{own} stays: {error}")
        remove_bucket(bucket)
        if good:
            shutil.rmtree(folder, ignore_errors=True)


def plan(kinds: Sequence[Kind], kills: int, scenes: int) -> tuple[list[tuple[Kind, Step]], list[tuple[Kind, Step]]]:
    """Share the kills out among kinds and steps: those of single scenes, and those of all. Steps between freeze and thaw come oftener."""
    own, shared = [kind for kind in kinds if not kind.shared], [kind for kind in kinds if kind.shared]
    for_shared = kills // 2 if own and shared else kills if shared else 0
    rounds = -(-for_shared // scenes)
    return _spread(own, kills - rounds * scenes), _spread(shared, rounds)


def _spread(kinds: Sequence[Kind], number: int) -> list[tuple[Kind, Step]]:
    order = (*OPEN, Step.BEFORE, *OPEN, Step.AFTER)
    ways = {kind.name: [step for step in order if step in kind.steps] for kind in kinds}
    share: list[tuple[Kind, Step]] = []
    while kinds and len(share) < number:
        kind, turn = kinds[len(share) % len(kinds)], len(share) // len(kinds)
        steps = ways[kind.name]
        share.append((kind, steps[turn % len(steps)]))
    return share


def prove(kinds: Sequence[Kind], *, kills: int, scenes: int, seed: int = 0) -> Tally:
    """Kill, judge, count. At the end each scene makes one point undisturbed: it must be application-consistent."""
    tally = Tally()
    lot = random.Random(seed)
    with stage(scenes) as made:
        own, shared = plan(kinds, kills, scenes)
        lot.shuffle(own)
        share = [own[index::scenes] for index in range(scenes)]
        with ThreadPoolExecutor(scenes) as pool:
            list(pool.map(lambda pair: _one_after_the_other(*pair, tally), zip(made, share, range(scenes), strict=True)))
        try:
            for kind, step in shared:
                _guarded(lambda kind=kind, step=step: kill_all(made, kind, step, tally, lot), f"{kind.name} at {step}", tally)
        finally:
            if shared:
                set_faults({})
                cluster_up()
        with ThreadPoolExecutor(scenes) as pool:
            list(pool.map(lambda scene: _undisturbed(scene, tally), made))
    return tally


def _one_after_the_other(scene: Scene, share: Sequence[tuple[Kind, Step]], seed: int, tally: Tally) -> None:
    lot = random.Random(seed)
    for kind, step in share:
        _guarded(lambda kind=kind, step=step: kill_one(scene, kind, step, tally, lot), f"{kind.name} at {step} in {scene.name}", tally)


def _guarded(act: Callable[[], None], what: str, tally: Tally) -> None:
    """Do it; what breaks is bad news of that kill alone."""
    try:
        act()
    except Exception as error:  # noqa: BLE001  one kill that cannot be judged must not cost the others
        with tally.lock:
            tally.bad.append(f"{what}: {type(error).__name__}: {error}")
        say(f"BAD  {what}: {type(error).__name__}: {error}")


def _undisturbed(scene: Scene, tally: Tally) -> None:
    """Demand that nothing of all that went before lasts; and show that the judge can see: of runs without a freeze, some are torn."""
    good, bad, torn = False, list[str](), 0
    for attempt in range(2 * UNDISTURBED):
        frozen = attempt % 2 == 0
        run = scene.start(*([] if frozen else ["--no-quiesce"]))
        run.go()
        verdict = judge(scene, run)
        good |= frozen and verdict.labels == ["application-consistent"]
        bad += verdict.problems
        torn += verdict.torn
    bad += [] if good else ["no point is application-consistent any more"]
    with tally.lock:
        tally.bad += [f"undisturbed, at the end ({scene.name}): {problem}" for problem in bad]
        tally.torn += torn
    say(f"undisturbed: {'application-consistent' if good else 'crash-consistent'}; torn without a freeze: {torn}  {'BAD' if bad else ''}")


def told(tally: Tally) -> list[str]:
    """Say what came of it, as rows."""
    rows = [f"{'':16}" + "".join(f"{step:>22}" for step in Step)]
    for name, kind in KINDS.items():
        if any(tally.kills[name, step] for step in Step):
            rows.append(f"{name:16}" + "".join(f"{tally.kills[name, step] or '':>22}" for step in Step) + f"   {kind.told}")
    rows.append(
        f"{tally.done} kills, {tally.while_open} between freeze and thaw; longest freeze {tally.longest:.1f} s; "
        f"labels {dict(tally.labels)}; {tally.torn} torn pairs seen; met nothing {dict(tally.missed)}; bad {len(tally.bad)}"
    )
    return rows


def main() -> int:
    """Kill, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=210)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--scenes", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if reason := absent():
        print(reason)
        return 1
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that what was built is taken down
    began = time.monotonic()
    tally = prove([KINDS[name] for name in given.kinds.split(",")], kills=given.kills, scenes=given.scenes, seed=given.seed)
    print("\n".join(told(tally)))
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    for line in tally.bad:
        print(f"BAD  {line}")
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
