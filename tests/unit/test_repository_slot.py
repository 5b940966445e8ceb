"""A pack that is built in a slot, and the worker that reads large files for it."""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path
from random import Random
from typing import Any

from becalm.repository.backup_worker import BackupWorker, Setup
from becalm.repository.crypto import NONCE, MasterKey
from becalm.repository.pack import BETWEEN, read_blob, read_header
from becalm.repository.slot import SLOT_BYTES, SlotPack

KEY = MasterKey(bytes(range(32)), bytes(range(16)), bytes(range(1, 17)))
SETUP = Setup(encrypt=KEY.encrypt, mac_k=KEY.mac_k, mac_r=KEY.mac_r, version=2, level=BETWEEN)


class Parent:
    """Brings everything, and has one slot for each pack."""

    def __init__(self) -> None:
        self.slots: list[Any] = [mmap.mmap(-1, SLOT_BYTES) for _ in range(3)]
        self.told: list[tuple[Any, ...]] = []

    def send(self, message: tuple[Any, ...]) -> None:
        """Keep what the worker says."""
        self.told.append(message)

    def bring(self, worker: BackupWorker) -> list[int]:
        """Answer each question until there are no more. Return the jobs that were asked about, as they were."""
        jobs, answered = [], 0
        while answered < len(self.told):
            message = self.told[answered]
            answered += 1
            if message[0] == "part":
                jobs.append(message[1])
                worker.handle(("bring", message[1], [True] * len(message[3])), ())
        return jobs


def still_open(files: dict[int, Path]) -> list[Path]:
    """Return those of the files that are open under the number that they were given."""
    found = []
    for fd, path in files.items():
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(fd), path.stat()):
                found.append(path)
    return found


def blobs_in(parent: Parent) -> dict[str, bytes]:
    """Return what the packs hold, read as a reader would."""
    found: dict[str, bytes] = {}
    for message in parent.told:
        if message[0] == "pack":
            _, slot, _, length, _ = message
            body = bytes(parent.slots[slot][:length])
            for blob in read_header(KEY, body):
                found[blob.id] = bytes(read_blob(KEY, body[blob.offset : blob.offset + blob.length], blob))
    return found


def test_no_two_blobs_of_a_pack_are_sealed_under_the_same_nonce() -> None:
    """Also where more are sealed than are asked of the system at a time: each begins with random bytes of its own."""
    slot = memoryview(mmap.mmap(-1, SLOT_BYTES))
    pack = SlotPack(KEY, slot)
    for number in range(1000):
        pack.append(number.to_bytes(32, "big"), b"the same")
    rows = pack.rows
    nonces = {bytes(slot[offset : offset + NONCE]) for _, offset, _, _ in rows}

    assert len(rows) == 1000
    assert len(nonces) == 1000


def test_large_files_are_read_a_few_at_a_time_and_all_to_their_end(tmp_path: Path) -> None:
    """Five extents at once: the worker asks about two of them, goes on with the others as those end, and leaves no file open."""
    parent = Parent()
    worker = BackupWorker(SETUP, parent)
    contents = [Random(number).randbytes((2 << 20) + 1000 * number) for number in range(5)]
    for number in range(3):
        worker.handle(("slot", number), ())
    opened: dict[int, Path] = {}
    for number, content in enumerate(contents):
        path = tmp_path / str(number)
        path.write_bytes(content)
        fd = os.open(path, os.O_RDONLY)
        opened[fd] = path
        worker.handle(("extent", number, 0, len(content), 0 if number % 2 else 128 << 10), (fd,))
    asked_at_first = [message[1] for message in parent.told]
    parent.bring(worker)
    worker.handle(("flush",), ())
    done = [message[1:] for message in parent.told if message[0] == "done"]
    items: dict[int, list[bytes]] = {number: [] for number in range(5)}
    for message in parent.told:
        if message[0] == "part":
            items[message[1]].extend(message[2])
    stored = blobs_in(parent)

    assert asked_at_first == [0, 1]
    assert sorted(done) == [(number, 0) for number in range(5)]
    assert contents == [b"".join(stored[raw.hex()] for raw in items[number]) for number in range(5)]
    assert still_open(opened) == []


def test_a_worker_that_is_closed_lets_go_of_files_it_has_not_begun(tmp_path: Path) -> None:
    """Those under way and those that wait."""
    opened: dict[int, Path] = {}
    worker = BackupWorker(SETUP, Parent())
    for number in range(5):
        path = tmp_path / str(number)
        path.write_bytes(Random(number).randbytes(3 << 20))
        fd = os.open(path, os.O_RDONLY)
        opened[fd] = path
        worker.handle(("extent", number, 0, 3 << 20, 0), (fd,))
    before = still_open(opened)
    worker.close()

    assert before == list(opened.values())
    assert still_open(opened) == []
