"""Entries of plain files and of directories, straight from their status to JSON: there are too many of them for objects.

What comes out is the same, byte for byte, as `node.encode_node` of the same entry; whatever is not plain goes that way.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from becalm.repository.node import FIRST_SECOND, LAST_SECOND, NodeType, encode_node, format_ns, go_mode, node_of

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

Xattrs: TypeAlias = "tuple[tuple[str, bytes], ...]"

_SECOND = 1_000_000_000
_PLAIN = re.compile(r"[ !#$%'()*+,\-./0-9:;=?@A-Z\[\]^_`a-z{|}~]*").fullmatch
"""Names in which neither JSON nor Go escapes anything."""
_MOST_KEPT = 1 << 15


class Entries:
    """Writes entries, and keeps what many of them share."""

    def __init__(self, *, access_times: bool = False) -> None:
        """Begin. Without `access_times` an entry says its time of change for both."""
        self.access_times = access_times
        self._seconds: dict[int, str] = {}
        self._modes: dict[int, str] = {}

    def time(self, nanoseconds: int) -> str:
        """Write a time, as `format_ns` does."""
        second, fraction = divmod(nanoseconds, _SECOND)
        text = self._seconds.get(second)
        if text is None:
            if not FIRST_SECOND <= second <= LAST_SECOND:
                return format_ns(nanoseconds)
            if len(self._seconds) >= _MOST_KEPT:
                self._seconds.clear()
            text = self._seconds[second] = format_ns(second * _SECOND)[:-1]
        if not fraction:
            return f"{text}Z"
        return f"{text}.{fraction:09d}".rstrip("0") + "Z"

    def file(self, name: str, stat: os.stat_result, content: Sequence[str], *, size: int, device_id: int = 0, xattrs: Xattrs = ()) -> bytes:
        """Write the entry of a file."""
        if xattrs or _PLAIN(name) is None:
            return self._slow(name, stat, content=tuple(content), size=size, device_id=device_id, xattrs=xattrs)
        body = '["' + '","'.join(content) + '"]' if content else "[]"
        return f'{self._file(name, stat, size, device_id)},"content":{body}}}'.encode()

    def file_stem(self, name: str, stat: os.stat_result, *, size: int, device_id: int = 0) -> bytes:
        """Write the entry of a file up to its extended attributes and its content."""
        if _PLAIN(name) is None:
            return self._slow(name, stat, content=(), size=size, device_id=device_id).removesuffix(b',"content":[]}')
        return self._file(name, stat, size, device_id).encode()

    def _file(self, name: str, stat: os.stat_result, size: int, device_id: int) -> str:
        links, number = stat.st_nlink, stat.st_ino
        inode = f',"inode":{number}' if number else ""
        device = f',"device_id":{device_id}' if device_id and links > 1 else ""
        length = f',"size":{size}' if size else ""
        linked = f',"links":{links}' if links else ""
        return f'{{"name":"{name}","type":"file"{self._status(stat)}{inode}{device}{length}{linked}'

    def directory(self, name: str, stat: os.stat_result, subtree: str, *, xattrs: Xattrs = ()) -> bytes:
        """Write the entry of a directory."""
        if xattrs or _PLAIN(name) is None:
            return self._slow(name, stat, subtree=subtree, xattrs=xattrs)
        return f'{self._directory(name, stat)},"content":null,"subtree":"{subtree}"}}'.encode()

    def directory_stem(self, name: str, stat: os.stat_result) -> bytes:
        """Write the entry of a directory up to its extended attributes and its subtree."""
        if _PLAIN(name) is None:
            return self._slow(name, stat).removesuffix(b',"content":null}')
        return self._directory(name, stat).encode()

    def _directory(self, name: str, stat: os.stat_result) -> str:
        inode = f',"inode":{stat.st_ino}' if stat.st_ino else ""
        return f'{{"name":"{name}","type":"dir"{self._status(stat)}{inode}'

    def _slow(self, name: str, stat: os.stat_result, *, device_id: int = 0, **more: object) -> bytes:
        return encode_node(node_of(name, stat, access_times=self.access_times, device_id=device_id, **more))

    def _status(self, stat: os.stat_result) -> str:
        """Write mode, times and owner."""
        mode = self._modes.get(stat.st_mode)
        if mode is None:
            mode = self._modes[stat.st_mode] = self._mode(stat.st_mode)
        mtime_ns, ctime_ns = stat.st_mtime_ns, stat.st_ctime_ns
        mtime = self.time(mtime_ns)
        atime = self.time(stat.st_atime_ns) if self.access_times else mtime
        ctime = mtime if ctime_ns == mtime_ns else self.time(ctime_ns)
        return f'{mode},"mtime":"{mtime}","atime":"{atime}","ctime":"{ctime}","uid":{stat.st_uid},"gid":{stat.st_gid}'

    @staticmethod
    def _mode(unix_mode: int) -> str:
        mode = go_mode(NodeType.DIR if unix_mode & 0o170000 == 0o040000 else NodeType.FILE, unix_mode)
        return f',"mode":{mode}' if mode else ""
