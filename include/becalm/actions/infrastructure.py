"""The code that a cluster is made from, in its recovery point: a bare mirror of each repository that the policy names.

A mirror whose refs are those of the parent's is taken over as it is. One that cannot be fetched is taken over too, as old as it is, and
named: what is there is better than nothing, and is not called whole. No application is frozen while this is done.
"""

from __future__ import annotations

import os
from collections.abc import Mapping  # noqa: TC003  (pydantic resolves the annotations at run time)
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import orjson

from becalm.clock import format_time
from becalm.errors import BecalmError, IntegrityError, NotFound, PermanentError
from becalm.git.contents import inspect, ref_of
from becalm.git.mirror import fetch, look
from becalm.model import Finding, from_payload, payload
from becalm.repository.backup import back_up_directory
from becalm.repository.extract import extract
from becalm.repository.tree import lookup
from becalm.repository.writer import Writer

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.actions.handover import Ports
    from becalm.model import RecoveryPoint
    from becalm.policy.spec import InfrastructureRepository, ProtectionPolicy
    from becalm.repository.node import Node
    from becalm.repository.reader import Repository

FOLDER = "git"
DOCUMENT = "infrastructure.json"
FETCH_SECONDS = 1800.0
LARGEST_DOCUMENT = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """What a point says of one repository."""

    name: str
    url: str
    """Without credentials."""
    ref: str
    """The whole name of the branch or tag that is declared to run."""
    revision: str
    """The commit that it stood for."""
    head: str = ""
    refs: Mapping[str, str] = field(default_factory=dict)
    fetched: str
    """When the server was last asked, and these were its refs."""
    findings: tuple[Finding, ...] = ()
    """What a working copy lacks, or why the mirror is older than the point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Documented:
    """All of them: `infrastructure.json`."""

    repositories: tuple[Mirrored, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What goes into a point."""

    mirrors: Mapping[str, Node] = field(default_factory=dict)
    document: bytes = b""
    missing: tuple[Finding, ...] = ()
    """Repositories that the policy requires and that could not be fetched."""


def save(
    policy: ProtectionPolicy, repository: Repository, parent: RecoveryPoint | None, ports: Ports, *, until: datetime | None = None
) -> Code:
    """Fetch what is new of each repository and write it. Raises what the store raises; what a server does is a finding."""
    if policy.spec.infrastructure is None:
        return Code()
    before = {one.name: one for one in _of_point(repository, parent)}
    mirrors: dict[str, Node] = {}
    told: list[Mirrored] = []
    missing: list[Finding] = []
    for wanted in policy.spec.infrastructure.repositories:
        where = f"{FOLDER}/{wanted.called}"
        ports.progress(f"infrastructure: {wanted.called}")
        old = before.get(wanted.called)
        old = old if old and old.url == wanted.url else None
        keeper = _Keeper(repository, parent, ports, until)
        try:
            one, root = keeper.brought_up_to_date(wanted, old)
        except _NotFetched as failure:
            finding = Finding(where=where, message=failure.error.message, remedy=failure.error.hint)
            if wanted.required:
                missing.append(finding)
            kept = keeper.of_parent(wanted.called) if old else None
            if old is None or kept is None:
                continue
            older = replace(finding, where=f"{where}: as of {old.fetched}")
            one, root = replace(old, findings=(*(one for one in old.findings if one.where == where), older)), kept
        told.append(one)
        mirrors[wanted.called] = root
    document = orjson.dumps(payload(Documented(repositories=tuple(told))), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    return Code(mirrors=mirrors, document=document, missing=tuple(missing))


class _NotFetched(Exception):  # noqa: N818  (what happened)
    """A repository could not be fetched; the store has nothing to do with it."""

    def __init__(self, error: BecalmError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class _Keeper:
    """Writes mirrors beside those of the parent."""

    repository: Repository
    parent: RecoveryPoint | None
    ports: Ports
    until: datetime | None

    def of_parent(self, name: str) -> Node | None:
        """Return the mirror in the parent; nothing where there is none."""
        with suppress(NotFound):
            return lookup(self.repository, self.parent.tree, f"{FOLDER}/{name}") if self.parent else None
        return None

    def brought_up_to_date(self, wanted: InfrastructureRepository, old: Mirrored | None) -> tuple[Mirrored, Node]:
        """Return a mirror as its server has it now. Raises _NotFetched, and what the store raises."""
        where, now = f"{FOLDER}/{wanted.called}", format_time(self.ports.clock.now())
        root = self.of_parent(wanted.called) if old else None
        try:
            access = self.ports.settings.git_access(wanted.connection or "")
            remote = look(wanted.url, access)
            ref = ref_of(remote, wanted.ref)
        except BecalmError as error:
            raise _NotFetched(error) from error
        if old and root and dict(remote.refs) == dict(old.refs) and remote.head == old.head and ref == old.ref:
            return replace(old, fetched=now, findings=tuple(one for one in old.findings if one.where == where)), root
        with TemporaryDirectory(prefix="becalm-git-") as temporary:
            folder = Path(temporary) / wanted.called
            if root and self.parent:
                _lay(self.repository, self.parent, wanted.called, Path(temporary))
            try:
                remote = fetch(wanted.url, folder, access, most_bytes=wanted.max_size, seconds=FETCH_SECONDS)
                ref = ref_of(remote, wanted.ref)
                revision, findings = inspect(folder, ref, where=where)
            except BecalmError as error:
                raise _NotFetched(error) from error
            made = self._written(folder)
        mirrored = Mirrored(
            name=wanted.called,
            url=wanted.url,
            ref=ref,
            revision=revision,
            head=remote.head,
            refs=remote.refs,
            fetched=now,
            findings=tuple(findings),
        )
        return mirrored, made

    def _written(self, folder: Path) -> Node:
        """Back up a mirror. Its files get one time, that of the run: nothing in a mirror rests on it."""
        moment = self.ports.clock.now().timestamp()
        for place, _, names in os.walk(folder):
            for name in names:
                os.utime(Path(place) / name, (moment, moment))
            os.utime(place, (moment, moment))
        with Writer(self.repository, retain_until=self.until) as writer:
            root: Node = back_up_directory(self.repository, writer, folder, stable_inodes=False, workers=0).root
        return root


def _lay(repository: Repository, parent: RecoveryPoint, name: str, folder: Path) -> None:
    """Put the parent's mirror into a folder. Of one that is not whole nothing is left: it is fetched anew."""
    with suppress(IntegrityError, NotFound):
        if not extract(repository, parent.tree, folder, include=f"{FOLDER}/{name}").failures:
            return
    rmtree(folder / name, ignore_errors=True)


def _of_point(repository: Repository, point: RecoveryPoint | None) -> tuple[Mirrored, ...]:
    """Return what a point says of its mirrors; nothing where it cannot be read, so that they are fetched anew."""
    if point is None:
        return ()
    with suppress(NotFound, PermanentError):
        return mirrored_in(repository, point.tree)
    return ()


def mirrored_in(repository: Repository, tree: str) -> tuple[Mirrored, ...]:
    """Return the repositories of code that a point holds. Raises NotFound (none), PermanentError (of another form), Damaged."""
    node = lookup(repository, tree, DOCUMENT)
    if node.size > LARGEST_DOCUMENT:
        raise PermanentError("it is too large to be read", where=DOCUMENT)
    try:
        said = orjson.loads(b"".join(repository.read_file(node)))
    except orjson.JSONDecodeError as error:
        raise PermanentError(f"it is no JSON: {error}", where=DOCUMENT) from error
    return from_payload(Documented, said).repositories
