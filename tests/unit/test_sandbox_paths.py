"""How mount paths become real folders in the words of a sandbox container."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.sandbox.paths import PathTable, expanded

TABLE = PathTable({"/data": "/state/v1", "/data/logs/": "/state/v2", "/etc/shop": "/state/s"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data", "/state/v1"),
        ("/data/a/b", "/state/v1/a/b"),
        ("/data/logs/x", "/state/v2/x"),
        ("--data=/data", "--data=/state/v1"),
        ("/data:/etc/shop", "/state/v1:/state/s"),
        ("cat '/data/a' >/data/b;ls /etc/shop", "cat '/state/v1/a' >/state/v1/b;ls /state/s"),
        ('{"path": "/data"}', '{"path": "/state/v1"}'),
        ("/data-old", "/data-old"),
        ("/database", "/database"),
        ("/data.bak", "/data.bak"),
        ("/var/data", "/var/data"),
        ("https://host/data", "https://host/data"),
        ("$ROOT/data", "$ROOT/data"),
        ("${ROOT}/data", "${ROOT}/data"),
        ("./data", "./data"),
        ("data", "data"),
    ],
)
def test_a_mount_path_is_replaced_where_it_stands_as_a_path(text: str, expected: str) -> None:
    """As a whole path or as the beginning of one, the longest first, and nowhere else."""
    assert TABLE.real(text) == expected


@given(text=st.text("/dat-. ='x", max_size=20))
def test_without_mounts_nothing_is_touched(text: str) -> None:
    """An empty table is the identity."""
    assert PathTable({}).real(text) == text
    assert PathTable({"/": "/state"}).real(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(C)", "$(C)"),
        ("$A", "$A"),
        ("a$$b", "a$b"),
        ("$(A", "$(A"),
    ],
)
def test_variables_expand_as_in_kubernetes(text: str, expected: str) -> None:
    """Known names, escapes, and whatever is neither."""
    assert expanded(text, {"A": "1", "B": "2"}) == expected
