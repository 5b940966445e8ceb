"""Lengths of time and amounts of bytes in a policy."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.policy.problems import Problem
from becalm.policy.units import format_duration, format_quantity, parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("15m", 900),
        ("1h", 3600),
        ("1h30m", 5400),
        ("14d", 1_209_600),
        ("2w", 1_209_600),
        ("1w1d1h1m1s", 694_861),
        ("90m", 5400),
        ("007s", 7),
    ],
)
def test_a_duration_is_the_sum_of_its_parts(text: str, seconds: int) -> None:
    """A day is 24 hours, a week seven days."""
    assert timedelta(seconds=seconds) == parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "s", "30", "30 s", "1m1h", "1s1s", "-1s", "1.5h", "0s", "0h0m", "1y", "1M", "PT1H", "\u0661s", "99999w", "1h\n"]
)
def test_what_is_no_duration_is_refused_with_a_remedy(text: str) -> None:
    """Order, unit and sign are never guessed."""
    with pytest.raises(Problem) as refused:
        parse_duration(text)

    assert refused.value.problem
    assert refused.value.remedy


@given(st.integers(min_value=1, max_value=36_525 * 86_400))
@settings(deadline=None)
def test_every_duration_survives_being_written_and_read(seconds: int) -> None:
    """Writing is the inverse of reading."""
    span = timedelta(seconds=seconds)

    assert span == parse_duration(format_duration(span))


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", 1),
        ("500Gi", 500 * 2**30),
        ("2T", 2 * 10**12),
        ("1.5Gi", 3 * 2**29),
        ("0.5k", 500),
        ("1Ei", 2**60),
        ("12k", 12_000),
        ("512Mi", 2**29),
    ],
)
def test_an_amount_is_read_as_kubernetes_reads_it(text: str, amount: int) -> None:
    """Two letters are powers of 1024, one letter powers of 1000."""
    assert amount == parse_quantity(text)


@pytest.mark.parametrize(
    "text", ["", "Gi", "0", "0Gi", "-1Gi", "1KB", "1gi", "1m", "1e3", "1 Gi", "0.3", "9999Ei", "1.Gi", "\u0663Gi", "1_000"]
)
def test_what_is_no_amount_is_refused_with_a_remedy(text: str) -> None:
    """Parts of a byte, and units that Kubernetes does not know."""
    with pytest.raises(Problem) as refused:
        parse_quantity(text)

    assert refused.value.problem
    assert refused.value.remedy


@given(st.integers(min_value=1, max_value=2**63 - 1))
@settings(deadline=None)
def test_every_amount_survives_being_written_and_read(amount: int) -> None:
    """Writing is the inverse of reading."""
    assert amount == parse_quantity(format_quantity(amount))
