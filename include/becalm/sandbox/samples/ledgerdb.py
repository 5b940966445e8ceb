"""A small database that really writes: a ledger of chained transactions and an index beside it, several times a second.

    python -m becalm.sandbox.samples.ledgerdb serve  --data /data
    python -m becalm.sandbox.samples.ledgerdb freeze --data /data     wait until it writes no more; confirmed when this ends with 0
    python -m becalm.sandbox.samples.ledgerdb thaw   --data /data     let it write again; harmless when it is not frozen
    python -m becalm.sandbox.samples.ledgerdb check  --data /data     is every transaction whole, does the index agree, was it quiesced?

A transaction is appended to `ledger.log` first and reaches `index.json` second, so a copy made between the two is not clean: only a copy
made while it was frozen is. It needs nothing of Becalm.
"""

# ruff: noqa: T201  (a command line)

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import secrets
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCOUNTS = ("anna", "bruno", "carla", "dario", "elena", "fabio")
PAUSE_SECONDS = 0.1
LOOK_SECONDS = 0.02
CONFIRM_SECONDS = 10.0


@dataclass(slots=True)
class Book:
    """What the ledger says, read from its first line to its last."""

    transactions: int = 0
    last: str = "0" * 64
    balances: dict[str, int] = field(default_factory=dict)
    good_bytes: int = 0
    problem: str = ""

    def take(self, entry: dict[str, Any]) -> None:
        """Count one transaction."""
        self.transactions, self.last = entry["n"], entry["digest"]
        self.balances[entry["from"]] = self.balances.get(entry["from"], 0) - entry["amount"]
        self.balances[entry["to"]] = self.balances.get(entry["to"], 0) + entry["amount"]

    def document(self) -> dict[str, Any]:
        """Return what the index holds."""
        return {"transactions": self.transactions, "last": self.last, "balances": self.balances}


def digest_of(entry: dict[str, Any]) -> str:
    """Return the digest of a transaction, which covers the one before it."""
    body = {key: value for key, value in entry.items() if key != "digest"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def read_book(data: Path) -> Book:
    """Read the ledger; the first line that is not whole or does not follow the one before ends it and is named."""
    book = Book()
    try:
        raw = (data / "ledger.log").read_bytes()
    except FileNotFoundError:
        return book
    for number, line in enumerate(raw.splitlines(keepends=True), start=1):
        try:
            entry = json.loads(line)
            whole = line.endswith(b"\n") and entry["digest"] == digest_of(entry)
        except (ValueError, KeyError, TypeError):
            whole, entry = False, {}
        if not whole or entry["n"] != book.transactions + 1 or entry["previous"] != book.last:
            book.problem = f"ledger.log: line {number} is not whole, or does not follow the one before"
            return book
        book.take(entry)
        book.good_bytes += len(line)
    return book


class Ledger:
    """The writer."""

    def __init__(self, data: Path) -> None:
        """Recover what is there: half a transaction is cut off, the index is made to agree, an old freeze is over."""
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        self._lock = (data / "writer.lock").open("a")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.book = read_book(data)
        self._log = (data / "ledger.log").open("ab", buffering=0)
        self._log.truncate(self.book.good_bytes)
        for name in ("freeze.request", "quiesced.json"):
            (data / name).unlink(missing_ok=True)
        self._write_index()

    def close(self) -> None:
        """Let the folder go, as the end of the process does."""
        self._log.close()
        self._lock.close()

    def transact(self) -> None:
        """Write one transaction: the ledger first, the index second."""
        sender, receiver = secrets.SystemRandom().sample(ACCOUNTS, 2)
        entry: dict[str, Any] = {
            "n": self.book.transactions + 1,
            "at": time.time(),
            "from": sender,
            "to": receiver,
            "amount": secrets.randbelow(1000) + 1,
            "previous": self.book.last,
        }
        entry["digest"] = digest_of(entry)
        self._log.write(json.dumps(entry).encode() + b"\n")
        self.book.take(entry)
        self._write_index()

    def quiesce_if_asked(self) -> bool:
        """Where a freeze is asked for: let everything reach the disk, confirm, and say so."""
        try:
            request = (self.data / "freeze.request").read_text()
        except FileNotFoundError:
            (self.data / "quiesced.json").unlink(missing_ok=True)
            return False
        confirmed = _read_json(self.data / "quiesced.json")
        if confirmed.get("request") != request:
            os.fsync(self._log.fileno())
            _write(self.data / "quiesced.json", {"request": request, **self.book.document(), "at": time.time()})
        return True

    def _write_index(self) -> None:
        with (self.data / "index.json").open("w") as file:
            json.dump(self.book.document(), file)


def digests(data: Path) -> dict[str, str]:
    """Return the SHA-256 of every file as it is found, by its path: what a restore brought, before anything is written."""
    files = sorted(path for path in data.rglob("*") if path.is_file()) if data.exists() else []
    return {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def serve(data: Path) -> int:
    """Write until told to end."""
    ending: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _frame: ending.append(caught))
    print(f"found {json.dumps(digests(data), sort_keys=True)}", flush=True)
    ledger = Ledger(data)
    print(f"ledger of {ledger.book.transactions} transactions is open", flush=True)
    while not ending:
        if ledger.quiesce_if_asked():
            time.sleep(LOOK_SECONDS)
            continue
        ledger.transact()
        if ledger.book.transactions % 100 == 0:
            print(f"{ledger.book.transactions} transactions", flush=True)
        end = time.monotonic() + PAUSE_SECONDS
        while not ending and time.monotonic() < end and not (data / "freeze.request").exists():
            time.sleep(LOOK_SECONDS)
    ledger.close()
    print(f"ledger of {ledger.book.transactions} transactions is closed", flush=True)
    return 0


def freeze(data: Path) -> int:
    """Ask for a freeze and wait for its confirmation."""
    if not _writer_lives(data):
        return _say(f"{data}: no writer runs here, so nobody can confirm a freeze")
    request = secrets.token_hex(8)
    _write_text(data / "freeze.request", request)
    end = time.monotonic() + CONFIRM_SECONDS
    while time.monotonic() < end:
        confirmed = _read_json(data / "quiesced.json")
        if confirmed.get("request") == request:
            print(f"frozen after transaction {confirmed['transactions']}")
            return 0
        time.sleep(LOOK_SECONDS)
    (data / "freeze.request").unlink(missing_ok=True)
    return _say(f"{data}: the writer did not confirm the freeze within {CONFIRM_SECONDS:g} s")


def thaw(data: Path) -> int:
    """End a freeze and wait until the writer has seen it."""
    (data / "freeze.request").unlink(missing_ok=True)
    end = time.monotonic() + CONFIRM_SECONDS
    while (data / "quiesced.json").exists() and _writer_lives(data):
        if time.monotonic() > end:
            return _say(f"{data}: the writer does not go on")
        time.sleep(LOOK_SECONDS)
    print("thawed")
    return 0


def check(data: Path, *, quiesced: bool) -> int:
    """Verify every transaction and the index; with `quiesced` also that this copy was made while the writer stood still."""
    book = read_book(data)
    index = _read_json(data / "index.json")
    mark = _read_json(data / "quiesced.json")
    was_quiesced = mark.get("transactions") == book.transactions and mark.get("last") == book.last and (data / "freeze.request").exists()
    problem = book.problem
    if not problem and index != book.document():
        problem = f"index.json: says {index.get('transactions', 'nothing')}, the ledger holds {book.transactions} transactions"
    if not problem and quiesced and not was_quiesced:
        problem = "quiesced.json: this copy was not made while the writer stood still"
    result = {"transactions": book.transactions, "last": book.last, "quiesced": was_quiesced, "problem": problem}
    print(json.dumps(result))
    return 1 if problem else 0


def _writer_lives(data: Path) -> bool:
    try:
        with (data / "writer.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _write(path: Path, document: dict[str, Any]) -> None:
    _write_text(path, json.dumps(document))


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def _say(problem: str) -> int:
    print(problem, file=sys.stderr)
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(prog="ledgerdb", description="A small database that really writes.")
    parser.add_argument("verb", choices=("serve", "freeze", "thaw", "check"))
    parser.add_argument("--data", type=Path, required=True, help="the folder of the database")
    parser.add_argument("--quiesced", action="store_true", help="check: the copy must have been made during a freeze")
    options = parser.parse_args(arguments)
    if options.verb == "check":
        return check(options.data, quiesced=options.quiesced)
    return {"serve": serve, "freeze": freeze, "thaw": thaw}[options.verb](options.data)


if __name__ == "__main__":
    sys.exit(main())
