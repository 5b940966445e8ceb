"""What the measurement of the freeze takes for a freeze."""

from __future__ import annotations

from tests.bench.bench_freeze import frozen_around


def test_only_the_write_that_waited_while_the_volumes_were_cut_is_the_freeze() -> None:
    """A disk that is slow before or after, however slow, has frozen nobody."""
    stalls = [{"began": 80.0, "seconds": 9.0}, {"began": 99.5, "seconds": 1.5}, {"began": 102.0, "seconds": 7.0}]

    assert frozen_around(stalls, 100.0, 100.8) == 1.5
    assert frozen_around(stalls, 90.0, 95.0) == 0.0
