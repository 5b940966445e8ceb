"""The sample database: it writes, stands still when told, and tells a clean copy from another."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from becalm.sandbox.samples import ledgerdb


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """The folder of a database that runs."""
    folder = tmp_path / "data"
    process = subprocess.Popen([sys.executable, ledgerdb.__file__, "serve", "--data", str(folder)], stdout=subprocess.DEVNULL)
    wait_for(folder, 3)
    yield folder
    process.terminate()
    assert process.wait(5) == 0


def wait_for(folder: Path, transactions: int) -> None:
    end = time.monotonic() + 10
    while ledgerdb.read_book(folder).transactions < transactions:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_copy_during_a_freeze_is_clean_and_known_to_be(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written while it is frozen; after the thaw it goes on."""
    frozen = ledgerdb.freeze(data)
    before = (data / "ledger.log").read_bytes()
    time.sleep(0.3)
    copy = Path(shutil.copytree(data, tmp_path / "copy"))
    thawed = ledgerdb.thaw(data)
    wait_for(data, ledgerdb.read_book(copy).transactions + 1)

    assert (frozen, thawed) == (0, 0)
    assert (copy / "ledger.log").read_bytes() == before
    assert ledgerdb.check(copy, quiesced=True) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["quiesced"] is True


def test_a_copy_without_a_freeze_does_not_pass_for_a_quiesced_one(data: Path, tmp_path: Path) -> None:
    """Even where it is whole by luck."""
    ledgerdb.freeze(data)
    ledgerdb.thaw(data)
    copy = Path(shutil.copytree(data, tmp_path / "copy"))

    assert ledgerdb.check(copy, quiesced=True) == 1


def test_thawing_twice_harms_nothing(data: Path) -> None:
    """Nor does thawing what was never frozen."""
    assert [ledgerdb.thaw(data), ledgerdb.thaw(data)] == [0, 0]


def test_a_freeze_without_a_writer_is_not_confirmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody stands still there, and nobody says so."""
    assert ledgerdb.freeze(tmp_path) == 1
    assert "no writer runs here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda log: log[:-20], "is not whole"),
        (lambda log: log.replace(b'"amount"', b'"amourt"', 1), "is not whole"),
        (lambda log: b"\n".join(log.split(b"\n")[1:]), "is not whole"),
        (lambda log: b"\n".join(log.split(b"\n")[:-2]) + b"\n", "the ledger holds"),
    ],
)
def test_damage_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: object, problem: str) -> None:
    """Half a transaction, a changed one, one that is missing, and an index that is ahead."""
    ledger = ledgerdb.Ledger(tmp_path)
    for _ in range(3):
        ledger.transact()
    ledger.close()
    log = tmp_path / "ledger.log"
    assert callable(damage)
    log.write_bytes(damage(log.read_bytes()))

    assert ledgerdb.check(tmp_path, quiesced=False) == 1
    assert problem in json.loads(capsys.readouterr().out)["problem"]


def test_a_crash_in_a_transaction_is_recovered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a line is cut off, the index agrees again, and an old freeze is over."""
    ledger = ledgerdb.Ledger(tmp_path)
    ledger.transact()
    with (tmp_path / "ledger.log").open("ab") as log:
        log.write(b'{"n": 2, "fro')
    (tmp_path / "freeze.request").write_text("old")
    ledger.close()
    again = ledgerdb.Ledger(tmp_path)
    again.transact()
    frozen = again.quiesce_if_asked()
    again.close()

    assert not frozen
    assert ledgerdb.check(tmp_path, quiesced=False) == 0
    assert json.loads(capsys.readouterr().out)["transactions"] == 2
