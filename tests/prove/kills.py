"""Real kills: SIGKILL at a random moment to a mover that backs up, to one that restores, and to a prune, on a real S3 server.

After each: no process of it is left, what is visible is whole, the plain retry succeeds, every byte comes back, and restic agrees.
Time jumps only as a prune sees it, whose grace period no test can wait for.

    python -m tests.prove.kills prune URL DAYS     a prune process, as if so many days had passed
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from becalm.catalog.points import tags_of
from becalm.clock import SystemClock
from becalm.errors import BecalmError
from becalm.model import Direction, MoverResult, MoverSpec, RecoveryPoint, VolumeRef, from_payload, payload
from becalm.repository import lease
from becalm.repository.check import check
from becalm.repository.crypto import Kdf
from becalm.repository.format import Layout, SnapshotDoc
from becalm.repository.lease import Fence
from becalm.repository.prune import Rules, prune
from becalm.repository.reader import init_repository, open_repository
from becalm.repository.snapshots import save_snapshot, snapshot_ids
from becalm.storage import open_store
from becalm.storage.wrappers import Wrapper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.storage.base import ObjectStore

PASSWORD = "p"
CHEAP = Kdf(n=1 << 4)
PATIENCE_SECONDS = 120
LARGE_FILES, LARGE_BYTES, SMALL_FILES = 5, 16 << 20, 400
NEEDED = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


class Later(Wrapper):
    """A store whose clock is so many days ahead."""

    def __init__(self, store: ObjectStore, days: float) -> None:
        super().__init__(store)
        self._ahead = timedelta(days=days)

    def now(self) -> datetime:
        """Return the time that somebody sees who comes back after that time."""
        return self._store.now() + self._ahead


@dataclass(slots=True)
class Kills:
    """What came of the kills."""

    done: int = 0
    in_time: int = 0
    """Those that met a process at work; the others came when it had just ended."""
    bad: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where it takes place: a bucket, and a folder that is backed up."""

    bucket: str
    source: Path
    work: Path

    @classmethod
    @contextlib.contextmanager
    def made(cls) -> Iterator[Ground]:
        """Make it, and remove it after."""
        work = Path(tempfile.mkdtemp(prefix="becalm-kills-"))
        source = work / "source"
        make_source(source)
        bucket = f"becalm-kills-{os.getpid()}-{time.time_ns() % 10**9}"
        open_store(f"s3://{bucket}/first", credentials(), create=True)
        try:
            yield cls(bucket=bucket, source=source, work=work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            remove_bucket(bucket)

    def store(self, prefix: str) -> ObjectStore:
        """Return the store of one trial."""
        return open_store(f"s3://{self.bucket}/{prefix}", credentials())


def credentials() -> dict[str, str]:
    """Return what the environment says of the S3 server."""
    return {name: os.environ[name] for name in NEEDED}


def absent() -> str:
    """Say what is missing for the kills; nothing where all is there."""
    missing = [name for name in NEEDED if not os.environ.get(name)]
    return f"not set: {', '.join(missing)}" if missing else ""


def make_source(folder: Path) -> None:
    """Write enough for workers to be started, and for a kill to meet them."""
    folder.mkdir()
    for number in range(LARGE_FILES):
        (folder / f"large-{number}").write_bytes(os.urandom(LARGE_BYTES))
    for number in range(SMALL_FILES):
        below = folder / f"folder-{number % 7}"
        below.mkdir(exist_ok=True)
        (below / f"small-{number}").write_bytes(os.urandom(200 + number))


def remove_bucket(bucket: str) -> None:
    """Empty a bucket and remove it."""
    import boto3

    client = boto3.client("s3", region_name="us-east-1")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", ()):
            client.delete_object(Bucket=bucket, Key=item["Key"])
    client.delete_bucket(Bucket=bucket)
    client.close()


def killed(command: list[str], environment: dict[str, str], seconds: float) -> tuple[bool, str]:
    """Start a process, kill it after so long, and return whether it was at work, and what of it is left after some seconds."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(timeout=seconds)
        at_work = False
    except subprocess.TimeoutExpired:
        at_work = True
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    left = ""
    for _ in range(100):
        left = in_session(process.pid)
        if not left:
            break
        time.sleep(0.1)
    return at_work, left


def in_session(session: int) -> str:
    """Name the processes of a session that still live."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                name, _, fields = (folder / "stat").read_text().rpartition(")")
                state, *rest = fields.split()
                if int(rest[2]) == session and state != "Z":
                    found.append(name)
    return ", ".join(found)


def mover(ground: Ground, prefix: str, volume: Path, **facts: Any) -> dict[str, str]:
    """Return the environment of a mover."""
    secrets = ground.work / "secrets"
    secrets.mkdir(exist_ok=True)
    for name, value in {**credentials(), "password": PASSWORD}.items():
        (secrets / name).write_text(value)
    spec = MoverSpec(
        name="mover",
        run="0123456789",
        direction=Direction.BACK_UP,
        volume=VolumeRef(namespace="shop", claim="data"),
        namespace="becalm",
        claim="data",
        repository=f"s3://{ground.bucket}/{prefix}",
        secret="none",
    )
    return {
        **os.environ,
        "BECALM_MOVER_SPEC": json.dumps(payload(replace(spec, **facts))),
        "BECALM_SECRET_DIR": str(secrets),
        "BECALM_VOLUME": str(volume),
        "BECALM_TERMINATION": str(ground.work / "termination"),
    }


MOVER = [sys.executable, "-m", "becalm.mover"]


def run_mover(store: ObjectStore, environment: dict[str, str]) -> tuple[MoverResult, float]:
    """Let a mover come to its end. Return its result and how long it took. Raises: RuntimeError."""
    began = time.monotonic()
    done = subprocess.run(MOVER, env=environment, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"the retry fails: {done.stdout.decode()[-500:]} {done.stderr.decode()[-500:]}")
    return from_payload(MoverResult, json.loads(store.get(Layout.run_result("0123456789", "mover")))), time.monotonic() - began


def commit(store: ObjectStore, tree: str) -> str:
    """Make a point of a volume's tree."""
    point = RecoveryPoint(id="", policy="shop", cut=datetime(2026, 1, 1, tzinfo=UTC), tree=tree, run="r")
    return save_snapshot(open_repository(store, PASSWORD), SnapshotDoc(time=point.cut, tree=tree, hostname="test", tags=tags_of(point)))


def differs(one: Path, two: Path) -> str:
    """Compare two folders, byte by byte."""
    done = subprocess.run(["diff", "-r", "-q", str(one), str(two)], capture_output=True, check=False)
    return done.stdout.decode()[:300]


def judged_by_restic(ground: Ground, prefix: str) -> str:
    """Let restic read everything; return what it has to say against it. Nothing where there is no restic."""
    restic = os.environ.get("RESTIC") or shutil.which("restic")
    if not restic:
        return ""
    said = credentials()
    done = subprocess.run(
        [restic, "--no-cache", "--no-lock", "-r", f"s3:{said['AWS_ENDPOINT_URL']}/{ground.bucket}/{prefix}", "check", "--read-data"],
        env={**os.environ, "RESTIC_PASSWORD": PASSWORD, "HOME": str(ground.work)},
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return done.stderr.decode()[:300] if done.returncode else ""


def kill_a_backup(ground: Ground, prefix: str, seconds: float) -> tuple[bool, str]:
    """Kill a backup; then repeat it."""
    store = ground.store(prefix)
    init_repository(store, PASSWORD, kdf=CHEAP)
    environment = mover(ground, prefix, ground.source)
    at_work, left = killed(MOVER, environment, seconds)
    if left:
        return at_work, f"left alive: {left}"
    if snapshot_ids(open_repository(store, PASSWORD)):
        return at_work, "a mover made something visible"
    result, _ = run_mover(store, environment)
    commit(store, result.tree)
    damages = check(open_repository(store, PASSWORD), read_data=True)
    if damages:
        return at_work, f"damaged: {damages[0]}"
    target = ground.work / f"target-{prefix}"
    target.mkdir()
    run_mover(store, mover(ground, prefix, target, direction=Direction.RESTORE, tree=result.tree))
    problem = differs(ground.source, target) or judged_by_restic(ground, prefix)
    shutil.rmtree(target)
    return at_work, problem


def kill_a_restore(ground: Ground, prefix: str, seconds: float) -> tuple[bool, str]:
    """Kill a restore; then repeat it into the same folder."""
    store = ground.store(prefix)
    init_repository(store, PASSWORD, kdf=CHEAP)
    result, _ = run_mover(store, mover(ground, prefix, ground.source))
    commit(store, result.tree)
    target = ground.work / f"target-{prefix}"
    target.mkdir()
    environment = mover(ground, prefix, target, direction=Direction.RESTORE, tree=result.tree)
    at_work, left = killed(MOVER, environment, seconds)
    if left:
        return at_work, f"left alive: {left}"
    run_mover(store, environment)
    problem = differs(ground.source, target)
    shutil.rmtree(target)
    return at_work, problem


def kill_a_prune(ground: Ground, prefix: str, seconds: float) -> tuple[bool, str]:
    """Kill a prune that marks, or the one that deletes; then repeat it."""
    store = ground.store(prefix)
    init_repository(store, PASSWORD, kdf=CHEAP)
    stays = run_mover(store, mover(ground, prefix, ground.source))[0].tree
    commit(store, stays)
    going = ground.work / f"going-{prefix}"
    make_source(going)
    gone = commit(store, run_mover(store, mover(ground, prefix, going))[0].tree)
    shutil.rmtree(going)
    store.delete(Layout.snapshot(gone))
    url = f"s3://{ground.bucket}/{prefix}"
    before = sum(info.size for info in store.list(Layout.DATA))
    met = False
    for days in (30, 60):
        at_work, left = killed([sys.executable, "-m", "tests.prove.kills", "prune", url, str(days)], dict(os.environ), seconds)
        met = met or at_work
        if left:
            return at_work, f"left alive: {left}"
        damages = check(open_repository(store, PASSWORD), read_data=True)
        if damages:
            return met, f"damaged after the kill: {damages[0]}"
        prune_as_if(url, days + 1)  # the retry, once the lease of the dead one has ended
    after = sum(info.size for info in store.list(Layout.DATA))
    if after > 0.7 * before:
        return met, f"{after} of {before} bytes are still there"
    damages = check(open_repository(store, PASSWORD), read_data=True)
    return met, f"damaged: {damages[0]}" if damages else judged_by_restic(ground, prefix)


def prune_as_if(url: str, days: float) -> None:
    """Prune under a lease, as if so many days had passed."""
    store = Later(open_store(url, credentials()), days)
    run = f"prune-{days}-{os.getpid()}"
    held = lease.take(store, policy="shop", run=run, seconds=60, clock=SystemClock())
    prune(open_repository(store, PASSWORD), who=run, alive=Fence(store, run, held.epoch).check, rules=Rules(most_share=1.0))
    lease.release(store, run=run, epoch=held.epoch)


KILLS = {"backup": kill_a_backup, "restore": kill_a_restore, "prune": kill_a_prune}
LONGEST_SECONDS = {"backup": 5.0, "restore": 5.0, "prune": 3.0}


def kill(kind: str, count: int, *, seed: int = 0) -> Kills:
    """Kill so many processes of a kind, each in a repository of its own."""
    found = Kills()
    lot = random.Random(f"{kind} {seed}")
    with Ground.made() as ground:
        for number in range(count):
            seconds = lot.uniform(0.4, LONGEST_SECONDS[kind])
            try:
                at_work, problem = KILLS[kind](ground, f"{kind}-{number}", seconds)
            except (BecalmError, RuntimeError, subprocess.TimeoutExpired) as error:
                at_work, problem = True, f"{type(error).__name__}: {error}"
            found.done += 1
            found.in_time += at_work
            if problem:
                found.bad.append(f"a {kind} killed after {seconds:.2f} s: {problem}")
    return found


if __name__ == "__main__":
    prune_as_if(sys.argv[2], float(sys.argv[3]))
