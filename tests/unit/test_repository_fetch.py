"""How much of a restore is under way at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.repository.fetch import Batch, files_at_once

BATCHES_UNDER_WAY = 3
KINDS_HELD_OPEN = 2
"""Files, and the directories around them."""


@given(st.integers(min_value=128, max_value=1 << 30))
def test_batches_under_way_never_exhaust_the_descriptors(allowed: int) -> None:
    """A quarter of the descriptors stays free for everything else."""
    assert BATCHES_UNDER_WAY * KINDS_HELD_OPEN * files_at_once(allowed) <= allowed * 3 // 4


@pytest.mark.parametrize(("allowed", "files"), [(-1, 512), (1 << 20, 512), (1024, 128), (256, 32), (10, 16)])
def test_a_batch_is_as_large_as_the_process_may_hold_open(allowed: int, files: int) -> None:
    """Many small files come with one request; a small limit only means more requests."""
    assert files_at_once(allowed) == files


def test_a_batch_is_full_with_its_last_step() -> None:
    """Directories count as files do: each is held open until its turn to be left."""
    batch = Batch(most=2)
    batch.then.append(lambda: None)
    assert not batch.full
    batch.then.append(lambda: None)

    assert batch.full
