"""A folder of a point as a tar archive, handed out while it is made: a few blocks of it are in memory, and nothing on a disk."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from becalm.errors import BecalmError
from becalm.repository.stream import send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.repository.reader import Repository

PART = 1 << 16


def archived(repository: Repository, tree_id: str, path: str) -> Iterator[bytes]:
    """Yield the archive. What is damaged ends it with an error, so that whoever takes it sees that it is not whole.

    Whoever stops taking ends the work: it is done by a thread that finds nobody listening.
    """
    taken, given = os.pipe()
    failed: list[BecalmError] = []

    def work() -> None:
        try:
            with os.fdopen(given, "wb") as out:
                send(repository, tree_id, path, out)
        except BrokenPipeError:
            return
        except BecalmError as error:
            failed.append(error)

    worker = threading.Thread(target=work, name="becalm-archive", daemon=True)
    worker.start()
    try:
        with os.fdopen(taken, "rb", buffering=0) as source:
            while part := source.read(PART):
                yield part
    finally:
        worker.join()
    if failed:
        raise failed[0]
