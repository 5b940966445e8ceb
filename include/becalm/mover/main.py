"""The work of one mover: one volume into the repository, or out of it, and at the very end one result in the bucket.

What it is told stands in its environment and in the files of one folder; it asks no cluster. It stops when the run's lease is
lost, when it is told to end, and at the first error that is not about a single file. Only the command line reads the clock.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import orjson

from becalm.clock import Clock, SystemClock
from becalm.errors import BecalmError, MoverFailed, UsageError, exit_code
from becalm.model import Direction, MoverResult, MoverSpec, VolumeMode, from_payload, payload
from becalm.repository import locks
from becalm.repository.backup import back_up_device, back_up_directory
from becalm.repository.compare import compare, compare_device
from becalm.repository.extract import extract, extract_device
from becalm.repository.format import Layout
from becalm.repository.lease import Fence
from becalm.repository.node import decode_node, encode_node
from becalm.repository.progress import Progress
from becalm.repository.reader import Repository, open_repository
from becalm.repository.retain import Term
from becalm.repository.scouts import sent_out
from becalm.repository.target import opened_below
from becalm.repository.writer import Writer
from becalm.storage import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from types import FrameType

    from becalm.repository.scouts import Scouts
    from becalm.storage.base import ObjectStore

PASSWORD = "password"  # noqa: S105  (the name of a file)
HEARTBEAT_SECONDS = 2.0
FENCE_SECONDS = 30.0
LEASE_SECONDS = 900.0
MOST_TERMINATION_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a mover finds what it needs. `ENVIRONMENT` names the variables."""

    spec: MoverSpec
    secrets: Mapping[str, str]
    volume: str
    termination: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Environment:
        """Read the variables and the folder of secrets. Raises UsageError, PermanentError."""
        text = environment.get("BECALM_MOVER_SPEC", "")
        if not text:
            raise UsageError("BECALM_MOVER_SPEC is not set", hint="a mover is started by Becalm, with its specification in the environment")
        try:
            document = orjson.loads(text)
        except ValueError as error:
            raise UsageError(f"BECALM_MOVER_SPEC is not JSON: {error}") from error
        return cls(
            spec=from_payload(MoverSpec, document),
            secrets=_secrets(Path(environment.get("BECALM_SECRET_DIR") or "/var/run/becalm")),
            volume=environment.get("BECALM_VOLUME") or "/volume",
            termination=environment.get("BECALM_TERMINATION") or "/dev/termination-log",
        )


ENVIRONMENT = ("BECALM_MOVER_SPEC", "BECALM_SECRET_DIR", "BECALM_VOLUME", "BECALM_TERMINATION")
"""Every variable that a mover reads."""


def _secrets(folder: Path) -> dict[str, str]:
    """Read each file of the folder under its name; Kubernetes' own hidden entries are left out."""
    try:
        files = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".") and entry.is_file()]
        return {entry.name: entry.read_text().rstrip("\r\n") for entry in files}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the credentials cannot be read: {error}", where=str(folder), hint="mount the mover's Secret there") from error


def main() -> int:
    """Run a mover from the process's environment and return its exit code."""
    _unlimit()
    return run(os.environ, out=sys.stdout, clock=SystemClock())  # noqa: TID251  the edge


def _unlimit() -> None:
    """Allow as many open files as may be, and change between threads often: they wait for each other in small steps."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sys.setswitchinterval(0.001)


PATIENCE = 12
"""How often a mover meets a failing store before it gives up: some two minutes. It may have hours of work behind it."""

THROTTLED_SECONDS = 600.0
"""How long a mover bears with a bucket that asks for patience. Its lease lasts longer."""


def run(environment: Mapping[str, str], *, out: TextIO, clock: Clock) -> int:
    """Do what the environment says. The result goes to the bucket last of all; a short copy to the termination message."""
    try:
        given = Environment.read(environment)
    except BecalmError as error:
        _say(out, {"error": f"{error.code}: {error}"})
        return exit_code(error)
    began = clock.monotonic()
    store: ObjectStore | None = None
    failure: BecalmError | None = None
    result = MoverResult(name=given.spec.name, run=given.spec.run, volume=given.spec.volume)
    try:
        store = open_store(
            given.spec.repository, given.secrets, lock=given.spec.lock_mode, attempts=PATIENCE, throttled_seconds=THROTTLED_SECONDS
        )
        result = _move(given, store, result, out=out, clock=clock)
    except BecalmError as error:
        failure = error
    except (OSError, MemoryError) as error:
        failure = MoverFailed(f"{type(error).__name__}: {error}", where=given.volume)
    if failure is not None:
        result = replace(result, error=f"{failure.code}: {failure}")
    result = replace(result, seconds=clock.monotonic() - began, peak_memory_bytes=_peak_memory())
    return _hand_in(given, store, result, failure, out=out)


def _peak_memory() -> int:
    """Return the most memory that this program had resident. (`ru_maxrss` would count what its parent had before it was started.)"""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    peak = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(peak.split()[1]) * 1024


def _hand_in(given: Environment, store: ObjectStore | None, result: MoverResult, failure: BecalmError | None, *, out: TextIO) -> int:
    """Leave the result where it is looked for. A mover whose result does not arrive has failed."""
    document = payload(result)
    if store is not None:
        try:
            store.put(Layout.run_result(given.spec.run, given.spec.name), orjson.dumps(document))
        except BecalmError as error:
            failure = failure or error
            document["error"] = document["error"] or f"{error.code}: {error}"
    _say(out, {"result": document})
    _leave_message(given.termination, document)
    return exit_code(failure) if failure is not None else 0


def _leave_message(path: str, document: dict[str, object]) -> None:
    """Write the short copy; long lists are cut until it fits."""
    short = dict(document)
    message = orjson.dumps(short)
    if len(message) > MOST_TERMINATION_BYTES:
        short |= {"unreadable": [], "notes": [], "error": str(document["error"])[:1000]}
        message = orjson.dumps(short)
    try:
        with open(path, "r+b" if os.path.exists(path) else "wb") as file:  # noqa: PTH110, PTH123  a device or a file
            file.write(message[:MOST_TERMINATION_BYTES])
    except OSError:
        return  # only a copy: the result stands in the bucket


def _say(out: TextIO, document: dict[str, object]) -> None:
    print(orjson.dumps(document).decode(), file=out, flush=True)


def _move(given: Environment, store: ObjectStore, result: MoverResult, *, out: TextIO, clock: Clock) -> MoverResult:
    spec = given.spec
    if PASSWORD not in given.secrets:
        raise UsageError("the repository's password is not among the credentials", hint=f"the mover's Secret needs the key {PASSWORD!r}")
    progress = Progress()
    with _sent_out(given) as scouts:
        repository = open_repository(store, given.secrets[PASSWORD])
        with _Watch(spec, store, progress, out=out):
            if spec.direction is Direction.BACK_UP:
                with locks.shared(repository, who=spec.run, clock=clock, leased=bool(spec.epoch), still=progress.check):
                    return _back_up(given, repository, result, progress, clock, scouts=scouts)
            return _restore(given, repository, result, progress)


def _sent_out(given: Environment) -> AbstractContextManager[Scouts | None]:
    """Send scouts ahead where there is a tree that the volume can be held beside: they list it while the repository opens."""
    spec = given.spec
    beside = spec.direction is Direction.BACK_UP and spec.mode is not VolumeMode.BLOCK and bool(spec.parent) and spec.stable_inodes
    return sent_out(given.volume) if beside else nullcontext()


def _back_up(
    given: Environment, repository: Repository, result: MoverResult, progress: Progress, clock: Clock, *, scouts: Scouts | None
) -> MoverResult:
    spec = given.spec
    until = Term.of(repository.store.now(), spec.lock_days).at_writing if spec.lock_days else None
    with Writer(repository, retain_until=until) as writer:
        if spec.mode is VolumeMode.BLOCK:
            written = back_up_device(writer, given.volume, progress=progress)
        else:
            written = back_up_directory(
                repository,
                writer,
                given.volume,
                parent_tree=spec.parent,
                stable_inodes=spec.stable_inodes,
                progress=progress,
                scouts=scouts,
            )
    _demand_lease(spec, repository.store, clock)
    return replace(
        result,
        tree=written.tree,
        root=encode_node(written.root).decode(),
        files=written.files,
        bytes_read=written.bytes_read,
        bytes_added=written.bytes_added,
        bytes_total=written.bytes_total,
        unreadable=written.unreadable,
        notes=written.notes,
    )


def _demand_lease(spec: MoverSpec, store: ObjectStore, clock: Clock) -> None:
    if spec.epoch:
        Fence(store, spec.run, spec.epoch, clock).check()


def _restore(given: Environment, repository: Repository, result: MoverResult, progress: Progress) -> MoverResult:
    spec = given.spec
    if spec.compare:
        return _compare(given, repository, result, progress)
    if spec.mode is VolumeMode.BLOCK:
        done = extract_device(repository, spec.tree, given.volume, progress=progress)
    else:
        root = decode_node(spec.root) if spec.root else None
        with opened_below(given.volume, spec.into) as folder:
            done = extract(repository, spec.tree, folder, root=root, include=spec.include, exact=spec.exact, progress=progress)
    return replace(
        result,
        tree=spec.tree,
        files=done.files + done.kept,
        bytes_read=done.bytes,
        bytes_total=progress.bytes,
        unreadable=done.failures,
        notes=done.notes,
    )


def _compare(given: Environment, repository: Repository, result: MoverResult, progress: Progress) -> MoverResult:
    """Hold the volume beside the tree. What differs is a failure."""
    look = compare_device if given.spec.mode is VolumeMode.BLOCK else compare
    found = look(repository, given.spec.tree, given.volume, progress=progress)
    return replace(
        result, tree=given.spec.tree, files=found.files, bytes_read=found.bytes, bytes_total=found.bytes, unreadable=found.differences
    )


class _Watch:
    """A thread beside the work: says how far it is, keeps the lease, and stops the work when the lease is lost or on SIGTERM."""

    def __init__(self, spec: MoverSpec, store: ObjectStore, progress: Progress, *, out: TextIO) -> None:
        self._spec = spec
        self._progress = progress
        self._out = out
        self._fence = Fence(store, spec.run, spec.epoch) if spec.epoch else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._before: object = None

    def __enter__(self) -> None:
        """Begin; a lease that is lost already ends it here. Raises LeaseLost."""
        if self._fence is not None:
            self._fence.check()
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._terminated)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """End the thread, and say the last word."""
        self._over.set()
        self._thread.join()
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)  # type: ignore[arg-type]  # what `signal` returned
        self._report()

    def _terminated(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  as `signal` calls it
        self._progress.stop(MoverFailed("the mover was told to end", hint="start the run again"))

    def _watch(self) -> None:
        beats = 0
        while not self._over.wait(HEARTBEAT_SECONDS):
            beats += 1
            with suppress(OSError, ValueError):  # whoever listened is gone: the lease matters more
                self._report()
            if self._fence is not None and beats * HEARTBEAT_SECONDS % FENCE_SECONDS < HEARTBEAT_SECONDS:
                self._keep(self._fence)

    def _keep(self, fence: Fence) -> None:
        try:
            fence.renew(LEASE_SECONDS)
        except BecalmError as error:
            if error.code == "lease-lost":
                self._progress.stop(error)  # anything else may pass: the check before the result decides

    def _report(self) -> None:
        progress = self._progress
        _say(
            self._out,
            {"progress": {"volume": str(self._spec.volume), "files": progress.files, "bytes": progress.bytes, "path": progress.path}},
        )
