"""Fetching what one command in a container says into the repository, as a stream: as one file, or as the files of a tar stream.

What the container says is not trusted: names are checked, sizes are bounded, and of a command that fails nothing is kept.
"""

from __future__ import annotations

import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from becalm.actions.mounts import locate
from becalm.actions.pipe import Pipe
from becalm.errors import BecalmError, HookFailed, IntegrityError
from becalm.kube import exec as command_exec
from becalm.kube.kinds import POD
from becalm.model import Finding
from becalm.quiesce.blueprint import Kept
from becalm.quiesce.deadman import as_user
from becalm.repository.node import Node

if TYPE_CHECKING:
    from typing import IO

    from becalm.actions.handover import Ports
    from becalm.actions.pods import Place
    from becalm.model import VolumeRef
    from becalm.quiesce.blueprint import Keep
    from becalm.repository.writer import Writer

MOST_NAMES = 1000
MOST_ENTRIES = 10_000
NAMES_SECONDS = 30.0
FOLDERS = {Kept.FILE: "blueprints", Kept.DUMP: "dumps"}
Entry = tuple[str, Node]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came, under its paths in the recovery point, and what did not."""

    entries: tuple[Entry, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Into:
    """Where what is fetched goes, and over which volumes something may lie."""

    usable: frozenset[VolumeRef]
    passed_over: frozenset[VolumeRef]
    """Volumes of the application that are read while they change, or could not be cut: nothing fits over those, and that is said elsewhere."""
    broken: frozenset[str]
    """Pods whose freeze did not hold: what is kept of it does not fit to the cut."""
    writer: Writer
    ports: Ports


def fetch(place: Place, keep: Keep, into: Into) -> Fetched:
    """Fetch what one `Keep` means. What fails is a finding. Raises what the store raises."""
    entries: list[Entry] = []
    findings: list[Finding] = []
    if keep.kind is Kept.OVERLAY and f"{place.hook.namespace}/{place.pod}" in into.broken:
        return Fetched()
    try:
        names = _names(place, keep, into.ports) if keep.each else [""]
    except BecalmError as error:
        return Fetched(findings=(_finding(place, keep, "", error),))
    for name in names:
        try:
            entries += _one(place, keep, name, into)
        except IntegrityError:
            raise
        except BecalmError as error:
            into.writer.check()  # where it is the store that failed, that is not the container's fault
            findings.append(_finding(place, keep, name, error))
    return Fetched(entries=tuple(entries), findings=tuple(findings))


def _finding(place: Place, keep: Keep, name: str, error: BecalmError) -> Finding:
    what = f"{name}{keep.name}" if keep.each else keep.name
    return Finding(where=str(place), message=f"{what} could not be kept: {error.message}", remedy=error.hint)


def _names(place: Place, keep: Keep, ports: Ports) -> list[str]:
    outcome = command_exec.run(
        ports.cluster,
        ports.clock,
        namespace=place.hook.namespace,
        pod=place.pod,
        container=place.container,
        command=as_user(place.hook.user, keep.each),
        timeout_seconds=NAMES_SECONDS,
    )
    if not outcome.done:
        raise HookFailed(f"what there is to keep cannot be told: {outcome.reason}", hint="run the command by hand there")
    names = [line for line in outcome.stdout.decode(errors="replace").splitlines() if line]
    if not names:
        raise HookFailed("there is nothing to keep", hint="name what is meant in the hook's parameters")
    if len(names) > MOST_NAMES:
        raise HookFailed(f"there are {len(names)} things to keep", hint=f"name at most {MOST_NAMES} in the hook's parameters")
    return names


def _one(place: Place, keep: Keep, name: str, into: Into) -> list[Entry]:
    """Run one command and store what it says while it comes. Raises HookFailed where it does not end well: then nothing of it counts."""
    hook = place.hook
    pipe = Pipe(most_bytes=keep.most_bytes)
    command = as_user(hook.user, (*keep.command, name) if keep.each else keep.command)

    def talk() -> command_exec.Outcome:
        try:
            return command_exec.run(
                into.ports.cluster,
                into.ports.clock,
                namespace=hook.namespace,
                pod=place.pod,
                container=place.container,
                command=command,
                timeout_seconds=keep.timeout_seconds,
                out=pipe.put,
            )
        finally:
            pipe.end()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch") as pool:
        ending = pool.submit(talk)
        wrong: HookFailed | None = None
        entries: list[Entry] = []
        try:
            entries = _stored(place, keep, name, pipe, into)
            pipe.drain()
        except HookFailed as error:
            wrong = error
        finally:
            pipe.close()
        outcome = ending.result()
    if wrong and (outcome.done or outcome.exit_code is None):
        raise wrong
    if not outcome.done:
        raise HookFailed(outcome.reason, hint="run the blueprint's command by hand there")
    return entries


def _stored(place: Place, keep: Keep, name: str, pipe: Pipe, into: Into) -> list[Entry]:
    if keep.kind is Kept.OVERLAY:
        return _untarred(place, pipe, into)
    content = into.writer.save_file(pipe.readinto)
    said = quote(name, safe=" +@=,()[]{}~!;:'&$") if keep.each else ""
    file = said + keep.name
    node = Node.file(file, content=content.content, size=content.size, mode=0o600, mtime_ns=_now(into.ports))
    return [(f"{FOLDERS[keep.kind]}/{place.hook.namespace}/{place.pod}/{file}", node)]


def _untarred(place: Place, pipe: Pipe, into: Into) -> list[Entry]:
    """Store the files of a tar stream, each under the claim that its path lies on."""
    pod = into.ports.cluster.get(POD, place.pod, namespace=place.hook.namespace)
    entries: list[Entry] = []
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", pipe), mode="r|") as archive:
            for member in archive:
                if not member.isreg() or len(entries) >= MOST_ENTRIES:
                    raise HookFailed(f"{member.name!r} is no plain file, or one too many", where=str(place))
                volume, path = locate(pod, place.container, member.name)
                if volume in into.passed_over:
                    return []
                if volume not in into.usable:
                    raise HookFailed(f"/{member.name} lies on {volume}, of which no snapshot was cut", hint="let the policy protect it")
                entries.append((f"overlays/{volume}/{path}", _file(archive, member, PurePosixPath(path).name, into.writer)))
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise HookFailed(f"what it says is no archive: {error}", hint="look at the command's errors") from error
    if not entries:
        raise HookFailed("the archive is empty", hint="look at the command's errors")
    return entries


def _file(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, writer: Writer) -> Node:
    source = archive.extractfile(member)
    assert source is not None

    def read(view: memoryview) -> int:
        data = source.read(len(view))
        view[: len(data)] = data
        return len(data)

    content = writer.save_file(read, size_hint=member.size)
    if content.size != member.size:
        raise HookFailed(f"{member.name} came only in part")
    node = Node.file(name, content=content.content, size=content.size, mode=member.mode & 0o7777, mtime_ns=int(member.mtime) * 10**9)
    return replace(node, uid=member.uid, gid=member.gid)


def _now(ports: Ports) -> int:
    return int(ports.clock.now().timestamp()) * 10**9
