"""One entry of a directory, and its JSON, byte for byte as restic would write it.

The order of the fields, the omitted empty ones and the escapes are Go's, so that restic can write a tree again without
changing its id. Fields that this version does not know are ignored when read. Nothing here touches a file system.
"""

from __future__ import annotations

import binascii
import itertools
import re
import stat
from base64 import b64decode, b64encode
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import orjson

from becalm.errors import Damaged
from becalm.repository.quoting import from_bytes, quote, to_bytes, unquote

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

_SECOND = 1_000_000_000
_NOT_TEXT = re.compile(r"[\udc80-\udcff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_SECOND = -62_167_219_200  # 0000-01-01, where restic cuts
LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59

# os.FileMode of Go: the permissions are Unix's, the rest is Go's own.
_DIR, _SYMLINK, _DEVICE, _FIFO, _SOCKET = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24
_SETUID, _SETGID, _CHAR, _STICKY = 1 << 23, 1 << 22, 1 << 21, 1 << 20
_SPECIAL = ((stat.S_ISUID, _SETUID), (stat.S_ISGID, _SETGID), (stat.S_ISVTX, _STICKY))


class NodeType(StrEnum):
    """What an entry of a directory is."""

    FILE = "file"
    DIR = "dir"
    SYMLINK = "symlink"
    DEV = "dev"
    CHARDEV = "chardev"
    FIFO = "fifo"
    SOCKET = "socket"
    IRREGULAR = "irregular"


_MODE_OF_TYPE = {
    NodeType.FILE: 0,
    NodeType.DIR: _DIR,
    NodeType.SYMLINK: _SYMLINK,
    NodeType.DEV: _DEVICE,
    NodeType.CHARDEV: _DEVICE | _CHAR,
    NodeType.FIFO: _FIFO,
    NodeType.SOCKET: _SOCKET,
    NodeType.IRREGULAR: 0,
}
_TYPE_OF_FORMAT = {
    stat.S_IFREG: NodeType.FILE,
    stat.S_IFDIR: NodeType.DIR,
    stat.S_IFLNK: NodeType.SYMLINK,
    stat.S_IFBLK: NodeType.DEV,
    stat.S_IFCHR: NodeType.CHARDEV,
    stat.S_IFIFO: NodeType.FIFO,
    stat.S_IFSOCK: NodeType.SOCKET,
}


def type_of(unix_mode: int) -> NodeType:
    """Say what a `st_mode` is the mode of."""
    return _TYPE_OF_FORMAT.get(stat.S_IFMT(unix_mode), NodeType.IRREGULAR)


def go_mode(node_type: NodeType, unix_mode: int) -> int:
    """Return Go's mode for a type and Unix's twelve bits of permissions."""
    mode = _MODE_OF_TYPE[node_type] | (unix_mode & 0o777)
    for unix, own in _SPECIAL:
        if unix_mode & unix:
            mode |= own
    return mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One entry of a directory. Times are nanoseconds since 1970; names and targets are text with surrogates for odd bytes."""

    name: str
    type: NodeType
    mode: int = 0
    """Go's `os.FileMode`; `permissions` gives Unix's twelve bits."""
    mtime_ns: int = 0
    atime_ns: int = 0
    ctime_ns: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    """Files with several links: which file system the inode is of."""
    size: int = 0
    links: int = 0
    linktarget: str = ""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    device: int = 0
    """Device nodes: major and minor, as `st_rdev`."""
    content: tuple[str, ...] | None = None
    """Files: the ids of the data blobs, in order."""
    subtree: str = ""
    """Directories: the id of the tree."""

    @property
    def permissions(self) -> int:
        """Unix's twelve bits."""
        bits = self.mode & 0o777
        for unix, own in _SPECIAL:
            if self.mode & own:
                bits |= unix
        return bits

    @property
    def key(self) -> bytes:
        """What the entries of a directory are sorted by."""
        return to_bytes(self.name)

    def renamed(self, name: str) -> Self:
        """Return the same entry under another name."""
        return replace(self, name=name)

    @classmethod
    def directory(cls, name: str, *, subtree: str = "", mode: int = 0o755, mtime_ns: int = 0) -> Node:
        """Make a plain directory of root's."""
        return Node(
            name=name,
            type=NodeType.DIR,
            mode=go_mode(NodeType.DIR, mode),
            mtime_ns=mtime_ns,
            atime_ns=mtime_ns,
            ctime_ns=mtime_ns,
            subtree=subtree,
        )

    @classmethod
    def file(cls, name: str, *, content: tuple[str, ...], size: int, mode: int = 0o644, mtime_ns: int = 0) -> Node:
        """Make a plain file of root's."""
        return Node(
            name=name,
            type=NodeType.FILE,
            mode=go_mode(NodeType.FILE, mode),
            mtime_ns=mtime_ns,
            atime_ns=mtime_ns,
            ctime_ns=mtime_ns,
            size=size,
            links=1,
            content=content,
        )


def node_of(name: str, status: os.stat_result, *, access_times: bool = False, device_id: int = 0, **more: object) -> Node:
    """Return an entry's node from its status; `more` are the fields that a status does not hold.

    Times of last access are recorded only on request: they would give a new tree each time a file is read.
    """
    node_type = type_of(status.st_mode)
    is_dir = node_type is NodeType.DIR
    fields: dict[str, object] = {
        "name": name,
        "type": node_type,
        "mode": go_mode(node_type, status.st_mode),
        "mtime_ns": status.st_mtime_ns,
        "atime_ns": status.st_atime_ns if access_times else status.st_mtime_ns,
        "ctime_ns": status.st_ctime_ns,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "inode": status.st_ino,
        "device_id": device_id if status.st_nlink > 1 and not is_dir else 0,
        "links": 0 if is_dir else status.st_nlink,
        "device": status.st_rdev if node_type in (NodeType.DEV, NodeType.CHARDEV) else 0,
    }
    return Node(**(fields | more))  # type: ignore[arg-type]  # the fields above are the node's own


@lru_cache(maxsize=4096)
def _date_of(day: int) -> str:
    moment = _EPOCH + timedelta(days=day) if day >= -719_162 else None
    return moment.strftime("%Y-%m-%d").rjust(10, "0") if moment else "0001-01-01"


def format_ns(nanoseconds: int) -> str:
    """Write a time as Go writes it in UTC: fractions only where there are any, without trailing zeros."""
    second, fraction = divmod(nanoseconds, _SECOND)
    if not FIRST_SECOND <= second <= LAST_SECOND:
        second, fraction = (0 if second < FIRST_SECOND else LAST_SECOND), 0
    day, second = divmod(second, 86400)
    minute, second = divmod(second, 60)
    tail = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{_date_of(day)}T{minute // 60:02d}:{minute % 60:02d}:{second:02d}{tail}Z"


@lru_cache(maxsize=4096)
def _second_of(text: str, zone: str) -> int:
    if text.startswith("0000"):  # Go's first year, which Python has not
        text = "0001" + text[4:]
    moment = datetime.fromisoformat(text + ("+00:00" if zone in ("Z", "z") else zone))
    return (moment - _EPOCH) // timedelta(seconds=1)


def parse_ns(text: str) -> int:
    """Read a time with nanoseconds and any zone. Raises ValueError."""
    fraction = 0
    zone = text[19:]
    if zone.startswith("."):
        digits = len(zone) - len(zone[1:].lstrip("0123456789")) - 1
        fraction = int(zone[1 : 1 + digits][:9].ljust(9, "0"))
        zone = zone[1 + digits :]
    if len(text) < 20 or not zone:
        raise ValueError(f"{text!r} is not a time with its zone")
    return _second_of(text[:19], zone) * _SECOND + fraction


def encode_node(node: Node) -> bytes:
    """Write one entry as JSON."""
    document: dict[str, Any] = {"name": quote(node.name), "type": node.type.value}
    if node.mode:
        document["mode"] = node.mode
    mtime = format_ns(node.mtime_ns)
    document["mtime"] = mtime
    document["atime"] = mtime if node.atime_ns == node.mtime_ns else format_ns(node.atime_ns)
    document["ctime"] = mtime if node.ctime_ns == node.mtime_ns else format_ns(node.ctime_ns)
    document["uid"] = node.uid
    document["gid"] = node.gid
    for key in ("user", "group", "inode", "device_id", "size", "links"):
        value = getattr(node, key)
        if value:
            document[key] = value
    if node.linktarget:
        _put_target(document, node.linktarget)
    if node.xattrs:
        document["extended_attributes"] = [{"name": name, "value": b64encode(value).decode()} for name, value in node.xattrs]
    if node.device:
        document["device"] = node.device
    document["content"] = node.content
    if node.subtree:
        document["subtree"] = node.subtree
    return _as_go(orjson.dumps(document))


def encode_name(name: str) -> bytes:
    """Write a name as it stands in an entry, with its quotes."""
    return _as_go(orjson.dumps(quote(name)))


def _put_target(document: dict[str, Any], target: str) -> None:
    raw = to_bytes(target)
    try:
        document["linktarget"] = raw.decode()
    except UnicodeDecodeError:
        parts = [orjson.dumps(part)[1:-1] for part in _NOT_TEXT.split(target)]
        document["linktarget"] = orjson.Fragment(b'"' + rb"\ufffd".join(parts) + b'"')
        document["linktarget_raw"] = b64encode(raw).decode()


_GO_ESCAPES = (
    (b"<", rb"\u003c"),
    (b">", rb"\u003e"),
    (b"&", rb"\u0026"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)


def _as_go(document: bytes) -> bytes:
    """Escape what Go's encoder escapes; these characters stand only inside strings."""
    for plain, escaped in _GO_ESCAPES:
        if plain in document:
            document = document.replace(plain, escaped)
    return document


def encode_tree(nodes: Iterable[Node]) -> bytes:
    """Write a directory: its entries sorted by the bytes of their names. Raises ValueError for a name that comes twice."""
    ordered = sorted(nodes, key=lambda node: node.key)
    for one, other in itertools.pairwise(ordered):
        if one.name == other.name:
            raise ValueError(f"the name {quote(one.name)!r} stands twice in one directory")
    return join_nodes(map(encode_node, ordered))


def join_nodes(encoded: Iterable[bytes]) -> bytes:
    """Put entries that are sorted and written already into one directory."""
    return b'{"nodes":[' + b",".join(encoded) + b"]}\n"


def decode_tree(document: bytes | bytearray, *, where: str = "") -> list[Node]:
    """Read a directory. Raises Damaged."""
    try:
        return [_node(entry) for entry in orjson.loads(document)["nodes"] or ()]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, binascii.Error) as error:
        raise Damaged(f"the tree cannot be read: {error}", where=where, hint="run a check of the repository") from error


def decode_node(document: bytes | str) -> Node:
    """Read one entry. Raises Damaged."""
    try:
        return _node(orjson.loads(document))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, binascii.Error) as error:
        raise Damaged(f"the entry of a directory cannot be read: {error}") from error


def read_entry(entry: dict[str, Any], *, where: str = "") -> Node:
    """Return an entry that JSON has been read from already. Raises Damaged."""
    try:
        return _node(entry)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, binascii.Error) as error:
        raise Damaged(f"the tree cannot be read: {error}", where=where, hint="run a check of the repository") from error


_NUMBERS = ("mode", "uid", "gid", "inode", "device_id", "size", "links", "device")


def _node(entry: dict[str, Any]) -> Node:
    name = entry["name"]
    if "\\" in name or '"' in name:
        name = unquote(name)
    mtime = parse_ns(entry["mtime"])
    numbers = {key: entry[key] for key in _NUMBERS if key in entry}
    for key, value in numbers.items():
        if type(value) is not int or value < 0:
            raise ValueError(f"{key} is {value!r}")
    content = entry.get("content")
    subtree = entry.get("subtree") or ""
    for blob in (*(content or ()), *((subtree,) if subtree else ())):
        if len(blob) != 64 or not _HEX.issuperset(blob):
            raise ValueError(f"{blob!r} is not an id")
    return Node(
        name=name,
        type=NodeType(entry["type"]),
        mtime_ns=mtime,
        atime_ns=parse_ns(entry["atime"]) if "atime" in entry else mtime,
        ctime_ns=parse_ns(entry["ctime"]) if "ctime" in entry else mtime,
        user=entry.get("user", ""),
        group=entry.get("group", ""),
        linktarget=_target(entry),
        xattrs=tuple((xattr["name"], b64decode(xattr["value"] or "", validate=True)) for xattr in entry.get("extended_attributes") or ()),
        content=None if content is None else tuple(content),
        subtree=subtree,
        **numbers,
    )


_HEX = frozenset("0123456789abcdef")


def _target(entry: dict[str, Any]) -> str:
    raw = entry.get("linktarget_raw")
    return from_bytes(b64decode(raw, validate=True)) if raw else entry.get("linktarget", "")
