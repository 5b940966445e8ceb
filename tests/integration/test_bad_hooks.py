"""Hooks that say too much, in real processes: a hundred megabytes, and bytes that are no text. Nobody is held up by it, and a person gets one sentence."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests.unit.test_quiesce import a_cut_of

from becalm.actions import quiesce
from becalm.actions.handover import FreezeOutcome
from becalm.model import Consistency
from becalm.testing.capture_scenes import Stage

if TYPE_CHECKING:
    from pathlib import Path

NOISE = os.environ.get("BECALM_TEST_NOISE", "100")
"""Megabytes."""
LONGEST_SENTENCE = 600


def saying(what: str, code: int, log: Path) -> tuple[str, ...]:
    """Return a freeze that writes something to both of its outputs, freezes, and ends with a code."""
    loud = f"/bin/head -c {NOISE}000000 {what}; /bin/head -c 1000000 {what} >&2; printf 'F %s\\n' $(/bin/date +%s.%N) >>\"$0\"; exit {code}"
    return ("/bin/sh", "-c", loud, str(log))


@pytest.mark.parametrize("what", ["/dev/zero", "/dev/urandom"], ids=["zeros", "noise"])
def test_a_hook_that_says_a_hundred_megabytes_freezes_like_any_other(tmp_path: Path, what: str) -> None:
    """What it says is dropped; the label is the best there is, and nothing of it stays in the container."""
    stage = Stage(tmp_path, freeze=saying(what, 0, tmp_path / "db-0" / "log"))
    record = quiesce.execute(stage.application(), stage.begun(), stage.policy, stage.ports)
    thawed = quiesce.thaw(stage.application(), record, a_cut_of(record, stage), stage.begun(), stage.policy, stage.ports)

    assert [item.outcome for item in record.frozen] == [FreezeOutcome.FROZEN]
    assert (record.reasons, thawed.consistency, thawed.confirmed) == ((), Consistency.APPLICATION, True)
    assert stage.frozen() == []
    assert not list((tmp_path / "db-0" / "tmp").iterdir())


@pytest.mark.parametrize("what", ["/dev/zero", "/dev/urandom"], ids=["zeros", "noise"])
def test_a_loud_hook_that_fails_is_told_in_one_sentence(tmp_path: Path, what: str) -> None:
    """With its exit code, and with no more of its noise than a person reads; it is thawed, for it may have frozen."""
    stage = Stage(tmp_path, freeze=saying(what, 42, tmp_path / "db-0" / "log"))
    record = quiesce.execute(stage.application(), stage.begun(), stage.policy, stage.ports)
    (reason,) = record.reasons

    assert "the freeze failed with exit code 42" in reason
    assert len(reason) < LONGEST_SENTENCE
    assert reason.replace("\n", " ").isprintable(), reason
    assert stage.frozen() == []
