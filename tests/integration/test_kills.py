"""SIGKILL to real processes at random moments, a few of them; `make prove` kills more."""

from __future__ import annotations

import pytest
from tests.prove import kills

pytestmark = pytest.mark.s3


@pytest.mark.parametrize("kind", kills.KILLS)
def test_whoever_is_killed_leaves_no_process_and_no_damage_and_can_be_repeated(kind: str) -> None:
    """No worker outlives it, what is visible is whole, the plain retry succeeds, and every byte comes back."""
    if kills.absent():
        pytest.skip(kills.absent())
    found = kills.kill(kind, 1, seed=1)

    assert found.bad == []
    assert found.done == 1
