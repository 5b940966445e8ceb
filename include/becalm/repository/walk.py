"""The walk through a volume: every entry looked at once, in the order of the names, and each directory put together from its entries.

It reads no file. A file that seems unchanged is one whose content is only asked about, many at a time; a directory in which
nothing has changed keeps its tree, and nothing of it is written.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from hashlib import sha256
from stat import S_IFDIR, S_IFMT, S_IFREG, S_ISDIR
from typing import TYPE_CHECKING

import orjson

from becalm.errors import Damaged, PermanentError
from becalm.model import Severity
from becalm.repository.before import Before, RawEntry
from becalm.repository.beside import Below, Stays
from becalm.repository.format import BlobKind
from becalm.repository.frame import Frame
from becalm.repository.listing import large_listing
from becalm.repository.node import Node, encode_node, join_nodes, parse_ns
from becalm.repository.quoting import to_bytes
from becalm.repository.reading import REPLACED, WENT_AWAY, why_not
from becalm.repository.reads import Reads
from becalm.repository.scouts import Scouts
from becalm.repository.sights import Sights, document_of, parts_of
from becalm.repository.source import Folder, Source
from becalm.repository.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from becalm.repository.entry import Xattrs
    from becalm.repository.frame import Folders, Kept
    from becalm.repository.hands import Hands
    from becalm.repository.progress import Progress
    from becalm.repository.reader import Repository
    from becalm.repository.sights import Sight
    from becalm.repository.writer import Writer

_DOUBTS = 4096

SPOOLED = 20_000
"""A directory of more entries is written a part at a time, so that its entries never stand in memory together."""


class Walk:
    """The walk of one backup."""

    def __init__(
        self,
        repository: Repository,
        writer: Writer,
        source: Source,
        hands: Hands,
        progress: Progress,
        *,
        folders: Folders,
        stable_inodes: bool,
        workers: int | None = None,
        scouts: Scouts | None = None,
    ) -> None:
        """Begin nowhere. `scouts` have been sent ahead."""
        self.dirs = self.unchanged = 0
        self._repository = repository
        self._writer = writer
        self._source = source
        self._findings = source.findings
        self._entries = source.entries
        self._hands = hands
        self._progress = progress
        self._stable_inodes = stable_inodes
        self._workers = workers
        self._scouts = scouts
        self._folders = folders
        self._reads = Reads(writer, source, hands, progress, folders=folders, ready=self._one_less)
        self._doubts: list[tuple[Frame, int, bool]] = []
        self._doubtful: list[Frame] = []
        self._ids: list[str] = []
        """The content of all that is doubtful."""
        self._root: Node | None = None

    def run(self, path: str, parent_tree: str) -> Node:
        """Walk, wait for all that is being read, and return the root's node. Raises PermanentError where the root cannot be read."""
        try:
            fd = self._source.open_folder(path)
            self._folders.hold(fd)
            names = _names(fd)
        except OSError as error:
            raise PermanentError(
                f"the directory cannot be read: {os.strerror(error.errno or 0)}", where=path, hint="check that the volume is mounted there"
            ) from error
        stat = os.fstat(fd)
        attributes = self._source.xattrs(Folder(fd, ""), "", fd)
        self._source.devices.setdefault(stat.st_dev, 1)
        sight = self._look(fd, parent_tree)
        if sight is not None and not sight.walks:
            return self._source.node("", stat, subtree=parent_tree, xattrs=attributes)
        root = self._begun(Frame(Folder(fd, ""), "", stat, None, 0, None, iter(()), attributes, sight), parent_tree, names)
        root.users += 1  # until all is read: whatever must be opened again is found from here
        stack = [root]
        while stack:
            child = self._advance(stack[-1])
            if child is not None:
                stack.append(child)
            else:
                self._left(stack.pop())
        self._settle_doubts()
        self._reads.finish()
        self._folders.release(root)
        assert self._root is not None
        return self._root

    def _look(self, fd: int, tree: str) -> Sight | None:
        """See what is as it was, where that can be seen by inodes and times of change and where no blob must be brought again."""
        if not (tree and self._stable_inodes) or self._entries.access_times:
            return None
        with ExitStack() as mine:
            scouts = self._scouts
            if scouts is None or not scouts.are_below(fd):
                scouts = mine.enter_context(Scouts(fd, workers=self._workers))
            if not self._writer.relies_on_all:  # to know this, the index is read: the scouts start meanwhile
                return None
            sight = Sights(self._repository, self._progress, scouts).look(tree)
            scouts.let_go()
        files, size, self.dirs = sight.past
        self.unchanged = files
        self._progress.add(files=files, size=size)
        return sight

    def _before(self, tree: str, path: str) -> Before | None:
        """Return the same directory in the parent, as far as it can be read."""
        if not tree:
            return None
        try:
            entries = large_listing(self._repository, tree)
            return Before(tree, entries=entries) if entries is not None else Before(tree, self._repository.blob(BlobKind.TREE, tree))
        except Damaged:
            if self._repository.index.has(BlobKind.TREE, tree):
                raise
            self._findings.note(
                path or "/", f"the parent's tree {tree[:12]} is not in the repository: all of it is read", severity=Severity.WARNING
            )
            return None

    def _advance(self, frame: Frame) -> Frame | None:
        """Go through a directory up to its next subdirectory, or to its end."""
        fd, entries = frame.folder.fd, frame.entries
        for name in frame.names:
            try:
                stat = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                self._findings.note(frame.folder.child(name), WENT_AWAY, severity=Severity.WARNING)
                continue
            except OSError as error:
                self._findings.cannot_read(frame.folder.child(name), error, "it cannot be looked at")
                continue
            entries.append(None)
            kind = S_IFMT(stat.st_mode)
            if kind == S_IFREG:
                self._file(frame, name, stat)
            elif kind != S_IFDIR:
                self._special(frame, name, stat)
            elif child := self._enter(frame, name, stat):
                return child
        return None

    def _enter(self, frame: Frame, name: str, stat: os.stat_result) -> Frame | None:
        self._hands.turn()
        folder = Folder(-1, frame.folder.child(name))
        entry = frame.before.find(name) if frame.before else None
        before = entry.get("subtree") if entry else None
        sight = None
        if frame.sight is not None and entry is not None:
            if name in frame.sight.even:
                self._past(frame, name, entry, stat)
                return None
            sight = frame.sight.odd.get(name) if frame.sight.odd else None
        try:
            folder.fd = self._source.open_folder(name, frame.folder)
            self._folders.hold(folder.fd)
            stat = os.fstat(folder.fd)
        except FileNotFoundError:
            self._findings.note(folder.path, WENT_AWAY, severity=Severity.WARNING)
            return None
        except OSError as error:
            return self._not_entered(frame, folder, name, error)
        frame.waiting += 1
        place = len(frame.entries) - 1
        attributes = self._source.xattrs(frame.folder, name, folder.fd)
        child = Frame(folder, name, stat, frame, place, None, iter(()), attributes, sight, entry)
        return self._begun(child, before or "")

    def _begun(self, frame: Frame, tree: str, names: list[str] | None = None) -> Frame:
        """Find what of a directory must be looked at: what the scouts have left of it, or all that is in it."""
        if self._patched(frame):
            return frame
        if names is None:
            try:
                names = _names(frame.folder.fd)
            except OSError as error:
                self._no_list(frame.folder, error)
                return frame
        frame.before = self._before(tree, frame.folder.path)
        frame.names = self._in_parts(frame, names) if len(names) > SPOOLED else iter(names)  # a large one is spooled as the walk goes
        return frame

    def _patched(self, frame: Frame) -> bool:
        """Keep what the scouts have found as it was, and look at the rest of it alone. Says so where they have told nothing of it."""
        sight = frame.sight
        if sight is None or not sight.is_in_parts:
            return False
        document = document_of(sight, self._repository)
        sight.asked = None
        parts = parts_of(sight, document)
        if parts is None:
            return False
        before = {part.name: orjson.loads(document[part.begin : part.end]) for part in parts if isinstance(part, Below)}
        frame.before = Before.of(sight.tree, before)
        frame.names = _left(frame, document, parts)
        self.unchanged += sight.seen.files
        self._progress.add(files=sight.seen.files, size=sight.seen.size)
        return True

    def _in_parts(self, frame: Frame, names: list[str]) -> Iterator[str]:
        """Yield the names of a large directory. Every so often all that it has given is brought to its end and spooled."""
        names.reverse()
        while names:
            part = names[-SPOOLED:]
            del names[-SPOOLED:]
            yield from reversed(part)
            if names:
                self._settle_doubts()
                self._reads.finish()
                self._spool(frame)

    def _spool(self, frame: Frame) -> Spool:
        """Spool what has come of a large directory, and is ready, since the last time."""
        if frame.spool is None:
            frame.spool = Spool(self._repository.key, version=self._repository.version, where=frame.folder.path or "/")
        ready = frame.entries[frame.spooled :]
        frame.spool.add([self._written(entry) for entry in ready if entry is not None])
        frame.entries[frame.spooled :] = [None] * len(ready)
        frame.spooled += len(ready)
        return frame.spool

    def _past(self, frame: Frame, name: str, before: RawEntry, stat: os.stat_result) -> None:
        """Go past a directory in which all is as it was; only its own entry may be another."""
        attributes = self._attributes(frame, name, before, stat)
        frame.entries[-1] = (name, stat, before["subtree"], attributes)
        frame.same += self._is_same(before, stat, attributes)

    def _attributes(self, frame: Frame, name: str, before: RawEntry, stat: os.stat_result) -> Xattrs:
        """Return the extended attributes of an entry. A change of them changes the time of change: without one, what had none has none."""
        if (
            self._stable_inodes
            and "extended_attributes" not in before
            and before.get("inode") == stat.st_ino
            and self._same_time(before.get("ctime"), stat.st_ctime_ns)
        ):
            return ()
        return self._source.xattrs(frame.folder, name)

    def _not_entered(self, frame: Frame, folder: Folder, name: str, error: OSError) -> Frame | None:
        """Take a directory that cannot be opened as closed, if it is one still; else leave it out, with a note."""
        number, what = why_not(error, "")
        try:
            stat = os.stat(name, dir_fd=frame.folder.fd, follow_symlinks=False)
        except OSError:
            number, what = 0, WENT_AWAY
        if number and S_ISDIR(stat.st_mode):
            return self._closed(frame, folder, name, stat, error)
        self._findings.note(folder.path, what or REPLACED, severity=Severity.WARNING)
        return None

    def _closed(self, frame: Frame, folder: Folder, name: str, stat: os.stat_result, error: OSError) -> Frame:
        """Return a directory that cannot be read as an empty one, with the finding."""
        self._no_list(folder, error)
        frame.waiting += 1
        return Frame(folder, name, stat, frame, len(frame.entries) - 1, None, iter(()))

    def _no_list(self, folder: Folder, error: OSError) -> None:
        self._findings.cannot_read(folder.path, error, "the directory cannot be read: what is in it is missing")

    def _special(self, frame: Frame, name: str, stat: os.stat_result) -> None:
        try:
            node = self._source.special(frame.folder, name, stat)
        except OSError as error:
            self._findings.take([(frame.folder.child(name), *why_not(error, "it cannot be read", also=(errno.EINVAL,)))])
            return
        if node is not None:
            frame.entries[-1] = encode_node(node)
            before = frame.before.find(name) if frame.before is not None else None
            if before is not None and before.get("type") == node.type.value and self._is_same(before, stat, node.xattrs):
                frame.same += 1

    def _file(self, frame: Frame, name: str, stat: os.stat_result) -> None:
        """Take a file: unchanged, as it seems, or to be read."""
        place = len(frame.entries) - 1
        before = frame.before.find(name) if frame.before is not None else None
        if before is not None and self._looks_unchanged(before, stat):
            self._doubt(frame, place, name, stat, before)
        else:
            frame.waiting += 1
            self._reads.read(frame, place, name, stat)

    def _looks_unchanged(self, before: RawEntry, stat: os.stat_result) -> bool:
        if before.get("type") != "file" or before.get("size", 0) != stat.st_size or before.get("content") is None:
            return False
        if not self._same_time(before.get("mtime"), stat.st_mtime_ns):
            return False
        return not self._stable_inodes or (before.get("inode") == stat.st_ino and self._same_time(before.get("ctime"), stat.st_ctime_ns))

    def _same_time(self, text: str | None, nanoseconds: int) -> bool:
        if text == self._entries.time(nanoseconds):
            return True
        if not text or text.endswith("Z"):
            return False
        try:
            return parse_ns(text) == nanoseconds  # restic writes times with their zones
        except ValueError:
            return False

    def _is_same(self, before: RawEntry, stat: os.stat_result, xattrs: Xattrs) -> bool:
        """Say whether the very same entry would be written: any change of owner, mode or links changes the time of change."""
        return (
            self._stable_inodes
            and not self._entries.access_times
            and not xattrs
            and "extended_attributes" not in before
            and before.get("inode") == stat.st_ino
            and self._same_time(before.get("mtime"), stat.st_mtime_ns)
            and self._same_time(before.get("ctime"), stat.st_ctime_ns)
        )

    def _doubt(self, frame: Frame, place: int, name: str, stat: os.stat_result, before: RawEntry) -> None:
        """Keep a file that seems unchanged until many can be asked about: is their content still there?"""
        if not self._doubtful or self._doubtful[-1] is not frame:
            self._doubtful.append(frame)
            frame.waiting += 1
        plain = self._stable_inodes and "extended_attributes" not in before  # its time of change is what it was, and they are with it
        attributes = () if plain else self._source.xattrs(frame.folder, name)
        content = before["content"]
        same = plain and not self._entries.access_times and before.get("links") == stat.st_nlink
        frame.entries[place] = (name, stat, content, attributes)
        frame.same += same
        self._doubts.append((frame, place, same))
        self._ids.extend(content)
        if len(self._ids) >= _DOUBTS or len(self._doubts) >= _DOUBTS:
            self._settle_doubts()

    def _settle_doubts(self) -> None:
        """Ask about all of them at once. Those whose content is not there for good are read after all."""
        doubts, self._doubts = self._doubts, []
        frames, self._doubtful = self._doubtful, []
        ids, self._ids = self._ids, []
        if not doubts:
            return
        unknown = self._unknown(doubts, ids)
        files = size = 0
        for doubt in doubts:
            frame, place, same = doubt
            kept = frame.entries[place]
            assert isinstance(kept, tuple)
            if unknown and doubt[:2] in unknown:
                frame.entries[place] = None
                frame.same -= same
                frame.waiting += 1
                self._folders.open_again(frame)
                self._reads.read(frame, place, kept[0], kept[1])
                self._folders.release(frame)
            else:
                files += 1
                size += kept[1].st_size
        self.unchanged += files
        self._progress.add(files=files, size=size)
        for frame in frames:
            self._one_less(frame)

    def _unknown(self, doubts: Sequence[tuple[Frame, int, bool]], ids: Sequence[str]) -> set[tuple[Frame, int]]:
        """Return the places of those whose content is not known, or is no list of ids."""
        if not ids:
            return set()
        try:
            known = self._writer.has_all(BlobKind.DATA, ids)
        except (TypeError, ValueError):
            known = False
        if known:
            return set()
        unknown: set[tuple[Frame, int]] = set()
        for frame, place, _ in doubts:
            kept = frame.entries[place]
            assert isinstance(kept, tuple)
            try:
                there = not kept[2] or self._writer.has_all(BlobKind.DATA, kept[2])
            except (TypeError, ValueError):
                there = False
            if not there:
                unknown.add((frame, place))
        return unknown

    def _left(self, frame: Frame) -> None:
        """The walk has seen all of a directory: its attributes are read, and it is closed as soon as nobody needs it."""
        self._folders.release(frame)
        self._one_less(frame)

    def _one_less(self, frame: Frame | None) -> None:
        """An entry is ready, or left out. A directory whose last one that was ends here, and so perhaps do those above it."""
        while frame is not None:
            frame.waiting -= 1
            if frame.waiting:
                return
            self._end(frame)
            frame = frame.parent

    def _end(self, frame: Frame) -> None:
        """Write a directory's tree, and put its entry into its parent."""
        before, frame.before = frame.before, None
        if before is not None and frame.same == len(frame.entries) == before.count and self._writer.relies_on_all:
            subtree = before.id
        elif frame.spool is not None:
            encoded = self._spool(frame).finish()
            subtree, frame.spool = encoded.id, None
            if before is None or subtree != before.id or not self._writer.has(BlobKind.TREE, subtree):
                self._writer.save_encoded(encoded)
        else:
            document = join_nodes([self._written(entry) for entry in frame.entries if entry is not None])
            subtree = sha256(document).hexdigest()
            if before is None or subtree != before.id or not self._writer.has(BlobKind.TREE, subtree):
                self._writer.save_blob(BlobKind.TREE, document)
        frame.entries = []
        self._progress.path = frame.folder.path
        self.dirs += 1
        if frame.parent is None:
            self._root = self._source.node(frame.name, frame.stat, subtree=subtree, xattrs=frame.xattrs)
            return
        frame.parent.entries[frame.place] = (frame.name, frame.stat, subtree, frame.xattrs)
        if frame.was is not None and subtree == frame.was.get("subtree") and self._is_same(frame.was, frame.stat, frame.xattrs):
            frame.parent.same += 1

    def _written(self, entry: bytes | Kept) -> bytes:
        if isinstance(entry, bytes):
            return entry
        name, stat, content, attributes = entry
        if isinstance(content, str):
            return self._entries.directory(name, stat, content, xattrs=attributes)
        return self._entries.file(name, stat, content, size=stat.st_size, device_id=self._source.device(stat), xattrs=attributes)


def _left(frame: Frame, document: bytes, parts: Sequence[Stays | Below | str]) -> Iterator[str]:
    """Yield the names that must be looked at; what stays is put where it belongs as they are asked for."""
    for part in parts:
        if isinstance(part, Stays):
            frame.entries.append(document[part.begin : part.end])
        else:
            yield part.name if isinstance(part, Below) else part


def _names(fd: int) -> list[str]:
    """List a directory in the order of a tree: by the bytes of the names."""
    names = os.listdir(fd)
    if "".join(names).isascii():
        names.sort()
    else:
        names.sort(key=to_bytes)
    return names
