"""The reports of drills in the bucket, and their entries in the ledger: written once, sealed, read back as nouns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from becalm.actions.drill_steps import DrillReport
from becalm.catalog import ledger
from becalm.errors import Damaged, NotFound, PermanentError
from becalm.model import from_payload, payload
from becalm.repository.format import Layout, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.repository.reader import Repository

FORMAT = 1
"""The format of a drill's entry in the ledger."""


def save(report: DrillReport, repository: Repository) -> None:
    """Write a report and its entry in the ledger. A second writing of the same drill changes the report, and adds no entry.

    Raises: Conflict, and what the store raises.
    """
    key = Layout.drill(report.id)
    known = _is_there(repository, key)
    sealed, _ = repository.seal_document(orjson.dumps(payload(report)))
    repository.store.put(key, sealed)
    if not known:
        content = {
            "format": FORMAT,
            "drill": report.id,
            "point": report.point,
            "ok": report.ok,
            "seconds": report.recovery_seconds,
            "rto_seconds": report.rto_seconds,
        }
        ledger.append(repository, ledger.EntryKind.DRILLED, content, who="drill", run=report.id)


def _is_there(repository: Repository, key: str) -> bool:
    try:
        repository.store.head(key)
    except NotFound:
        return False
    return True


def listed(repository: Repository) -> tuple[DrillReport, ...]:
    """Return the reports that are there, oldest first. Raises: Damaged (one cannot be read), and what the store raises."""
    return tuple(sorted(_reports(repository), key=lambda report: (report.started, report.id)))


def last(repository: Repository) -> DrillReport | None:
    """Return the newest report, or nothing."""
    return next(reversed(listed(repository)), None)


def _reports(repository: Repository) -> Iterator[DrillReport]:
    for info in repository.store.list(Layout.DRILLS):
        where = repository.where(info.key)
        try:
            sealed = repository.store.get(info.key)
        except NotFound:
            continue
        document = read_json(repository.open_document(sealed, where=where), where=where)
        try:
            yield from_payload(DrillReport, document)
        except PermanentError as error:
            raise Damaged(f"the report of a drill cannot be read: {error.message}", where=where, hint="use a newer Becalm") from error
