"""Names and nodes: whatever is written is read back the same, in the form that Go writes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from becalm.errors import Damaged
from becalm.repository.node import Node, NodeType, decode_node, decode_tree, encode_node, encode_tree, format_ns, go_mode, parse_ns, type_of
from becalm.repository.quoting import from_bytes, quote, to_bytes, unquote

NAMES = st.binary(min_size=1, max_size=40).map(from_bytes)
IDS = st.binary(min_size=32, max_size=32).map(bytes.hex)
TIMES = st.integers(-62_000_000_000_000_000_000, 253_402_300_799_999_999_999)
UNSIGNED = st.integers(0, 2**64 - 1)
NODES = st.builds(
    Node,
    name=NAMES,
    type=st.sampled_from(NodeType),
    mode=st.integers(0, 2**32 - 1),
    mtime_ns=TIMES,
    atime_ns=TIMES,
    ctime_ns=TIMES,
    uid=st.integers(0, 2**32 - 1),
    gid=st.integers(0, 2**32 - 1),
    user=st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    inode=UNSIGNED,
    device_id=UNSIGNED,
    size=UNSIGNED,
    links=UNSIGNED,
    linktarget=st.binary(max_size=20).map(from_bytes),
    xattrs=st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), st.binary(max_size=9)), max_size=3).map(tuple),
    device=UNSIGNED,
    content=st.none() | st.lists(IDS, max_size=3).map(tuple),
    subtree=st.just("") | IDS,
)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_name_and_come_back(raw: bytes) -> None:
    """Quoting has an inverse, and its result is plain text."""
    quoted = quote(from_bytes(raw))

    assert to_bytes(unquote(quoted)) == raw
    assert quoted.encode().decode() == quoted


@pytest.mark.parametrize(
    ("raw", "quoted"),
    [
        (b"plain name", "plain name"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b'a"b\\c', r"a\"b\\c"),
        (b"\a\b\f\n\r\t\v", r"\a\b\f\n\r\t\v"),
        (b"\x01\x7f", r"\x01\x7f"),
        ("ü😀".encode(), "ü😀"),
        ("\u200b\u2028\u00a0".encode(), r"\u200b\u2028\u00a0"),
        ("\U000e0001".encode(), r"\U000e0001"),
        (b"\xed\xa0\x80", r"\xed\xa0\x80"),
    ],
)
def test_names_are_quoted_as_go_quotes_them(raw: bytes, quoted: str) -> None:
    """The table was made with strconv.Quote."""
    assert quote(from_bytes(raw)) == quoted


@pytest.mark.parametrize("text", ["\\", "\\q", "\\x4", "\\ud800", "\\U00110000", "\\400", 'a"b', "a\nb"])
def test_what_go_would_not_have_written_is_refused(text: str) -> None:
    """An escape that is none is an error, not a guess."""
    with pytest.raises(ValueError, match=r".+"):
        unquote(text)


@given(NODES)
def test_a_node_comes_back_from_its_json(node: Node) -> None:
    """Nothing of a node is lost, and its JSON is what any reader of JSON reads."""
    written = encode_node(node)

    assert decode_node(written) == node
    assert json.loads(written)["type"] == node.type.value


@given(st.lists(NODES, max_size=6, unique_by=lambda node: node.name))
def test_a_tree_is_sorted_by_the_bytes_of_its_names(nodes: list[Node]) -> None:
    """Whatever order it was made in, it is written in one, and ends with a new line."""
    written = encode_tree(nodes)

    assert [to_bytes(node.name) for node in decode_tree(written)] == sorted(to_bytes(node.name) for node in nodes)
    assert written.endswith(b"]}\n")


def test_a_name_that_comes_twice_is_refused() -> None:
    """Restic takes such a tree for damaged."""
    node = Node.directory("twice")

    with pytest.raises(ValueError, match="twice"):
        encode_tree([node, node])


@given(TIMES)
def test_times_keep_their_nanoseconds(moment: int) -> None:
    """Every nanosecond of ten thousand years has a form, and it is read back."""
    assert parse_ns(format_ns(moment)) == moment


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (10**18 + 10, "2001-09-09T01:46:40.00000001Z"),
    ],
)
def test_times_are_written_as_go_writes_them(nanoseconds: int, text: str) -> None:
    """No zeros at the end, and UTC as Z."""
    assert format_ns(nanoseconds) == text


@pytest.mark.parametrize(("text", "seconds"), [("2001-09-09T03:46:40+02:00", 10**9), ("0001-01-01T00:00:00Z", -62_135_596_800)])
def test_times_of_other_zones_are_read(text: str, seconds: int) -> None:
    """Restic writes the zone of the machine, and year one for no time at all."""
    assert parse_ns(text) == seconds * 1_000_000_000


@pytest.mark.parametrize("mode", [0o100644, 0o104755, 0o102711, 0o101777, 0o040755, 0o041777, 0o120777, 0o060600, 0o020600, 0o010644])
def test_modes_survive_the_way_through_go(mode: int) -> None:
    """Twelve bits and the type, in Go's own places, come back as Unix's."""
    node = Node(name="n", type=type_of(mode), mode=go_mode(type_of(mode), mode))

    assert node.permissions == mode & 0o7777


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"nodes":[1]}',
        b'{"nodes":[{}]}',
        b'{"nodes":[{"name":1,"type":"file"}]}',
        b'{"nodes":[{"name":"a","type":"what","mtime":"2001-09-09T01:46:40Z"}]}',
        b'{"nodes":[{"name":"a","type":"file","mtime":"never"}]}',
        b'{"nodes":[{"name":"a","type":"file","mtime":"2001-09-09T01:46:40Z","size":-1}]}',
        b'{"nodes":[{"name":"a","type":"file","mtime":"2001-09-09T01:46:40Z","content":["../x"]}]}',
        b'{"nodes":[{"name":"\\\\q","type":"file","mtime":"2001-09-09T01:46:40Z"}]}',
        b'{"nodes":[{"name":"a","type":"dir","mtime":"2001-09-09T01:46:40Z","subtree":7}]}',
        b'{"nodes":[{"name":"a","type":"file","mtime":"2001-09-09T01:46:40Z","extended_attributes":[{"name":"x","value":"%"}]}]}',
    ],
)
def test_a_tree_that_is_none_is_damaged(document: bytes) -> None:
    """Whatever stands in a tree, reading it gives nodes or Damaged, never another error."""
    with pytest.raises(Damaged):
        if decode_tree(document) == []:
            raise Damaged("an empty tree")


def test_unknown_fields_are_ignored() -> None:
    """A later version may write more."""
    node = decode_node(b'{"name":"a","type":"file","mtime":"2001-09-09T01:46:40Z","future":{"x":1},"generic_attributes":{}}')

    assert node.name == "a"
