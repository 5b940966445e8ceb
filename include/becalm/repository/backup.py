"""A mounted volume, or a block device, into a tree of the repository.

The walk runs ahead in the order of the names and hands files to the writer's threads; the trees are put together behind it,
in the same order, as files become ready. What may wait between the two is bounded. The parent's trees are read beside the
walk: a file that has not changed costs no read. It makes nothing visible: that is the snapshot's business.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from becalm.errors import NotFound, PermanentError
from becalm.model import Finding, Severity
from becalm.repository.format import BlobKind, NodeType
from becalm.repository.node import Node, encode_node, join_nodes, type_of
from becalm.repository.progress import Progress
from becalm.repository.quoting import to_bytes
from becalm.repository.source import SMALL, WENT_AWAY, Findings, Folder, Source, is_zero

if TYPE_CHECKING:
    from collections.abc import Iterator

    from becalm.repository.reader import Repository
    from becalm.repository.writer import Writer

DISK_IMAGE = "disk.img"
"""The one file in the tree of a block device."""

BLOCK = 1 << 20
"""Block devices change in place: they are cut at these places, not by their content."""

_BATCH_FILES = 64
_BATCH_BYTES = 1 << 20
_AHEAD = 48
_OPEN_FOLDERS = 128
_LARGE_AT_ONCE = 2
_BLOCKS_AHEAD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a backup wrote. `bytes_added` counts all that the writer has sent by now."""

    tree: str
    root: Node
    """The volume's own directory: its owner, mode and times; its subtree is `tree`."""
    files: int = 0
    dirs: int = 0
    unchanged: int = 0
    bytes_read: int = 0
    bytes_total: int = 0
    bytes_added: int = 0
    unreadable: tuple[Finding, ...] = ()
    notes: tuple[Finding, ...] = ()


@dataclass(slots=True)
class _Frame:
    """A directory under way."""

    folder: Folder
    name: str
    stat: os.stat_result
    before: dict[str, Node]
    names: Iterator[str]
    entries: list[bytes] = field(default_factory=list)
    """What is ready, in order."""
    batch: list[str] = field(default_factory=list)
    """Small files that will be read together."""
    batch_bytes: int = 0


@dataclass(slots=True)
class _Step:
    """One thing that the assembler does, in the order of the names: entries that will be ready, or the end of a directory."""

    frame: _Frame
    ready: Future[list[bytes]] | bytes | None
    parent: _Frame | None = None


def back_up_directory(
    repository: Repository,
    writer: Writer,
    path: str | os.PathLike[str],
    *,
    parent_tree: str = "",
    stable_inodes: bool = True,
    access_times: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write a directory and all that is in it, and flush the writer. One that cannot be opened is an error, not an empty tree.

    `parent_tree` is the same directory's tree in an earlier snapshot. `stable_inodes` says that inode and time of change
    survive between the two, so that they too must agree for a file to count as unchanged.
    """
    findings = Findings()
    source = Source(writer, findings, progress or Progress(), access_times=access_times)
    work = _Walk(repository, writer, source, stable_inodes=stable_inodes)
    try:
        root = work.run(os.fspath(path), parent_tree)
    finally:
        work.close()
    return Written(
        tree=root.subtree,
        root=root,
        files=source.progress.files,
        dirs=work.dirs,
        unchanged=work.unchanged,
        bytes_read=source.bytes_read,
        bytes_total=source.progress.bytes,
        bytes_added=writer.flush().bytes_added,
        unreadable=findings.all_unreadable(),
        notes=findings.all_notes(),
    )


class _Walk:
    """The walk and the assembly of one backup."""

    def __init__(self, repository: Repository, writer: Writer, source: Source, *, stable_inodes: bool) -> None:
        self.repository = repository
        self.writer = writer
        self.source = source
        self.findings = source.findings
        self.stable_inodes = stable_inodes
        self.dirs = self.unchanged = 0
        self._steps: deque[_Step] = deque()
        self._open = 0
        self._folders: set[int] = set()
        self._large = ThreadPoolExecutor(max_workers=_LARGE_AT_ONCE, thread_name_prefix="large")
        self._root: Node | None = None

    def close(self) -> None:
        """Let go of threads and directories, also after a failure."""
        for step in self._steps:
            if isinstance(step.ready, Future):
                step.ready.cancel()
        self._large.shutdown(wait=True, cancel_futures=True)
        for step in self._steps:
            if isinstance(step.ready, Future) and not step.ready.cancelled():
                step.ready.exception()  # wait: it may still use its directory
        for fd in self._folders:
            os.close(fd)

    def run(self, path: str, parent_tree: str) -> Node:
        """Walk, and return the root's node."""
        try:
            fd = self.source.open_folder(path)
            self._folders.add(fd)
            names = self._names(fd)
        except OSError as error:
            raise PermanentError(
                f"the directory cannot be read: {os.strerror(error.errno or 0)}", where=path, hint="check that the volume is mounted there"
            ) from error
        stack = [_Frame(Folder(fd, ""), "", os.fstat(fd), self._parent(parent_tree, ""), names)]
        self._open = 1
        while stack:
            child = self._advance(stack[-1])
            if child is not None:
                stack.append(child)
            else:
                done = stack.pop()
                self._push(_Step(done, None, stack[-1] if stack else None))
        while self._steps:
            self._assemble()
        assert self._root is not None
        return self._root

    def _names(self, fd: int) -> Iterator[str]:
        return iter(sorted(os.listdir(fd), key=to_bytes))

    def _parent(self, tree: str, path: str) -> dict[str, Node]:
        """Return the entries of the same directory in the parent, as far as it can be read."""
        if not tree:
            return {}
        if not self.repository.index.has(BlobKind.TREE, tree):
            self.findings.note(
                path or "/", f"the parent's tree {tree[:12]} is not in the repository: all of it is read", severity=Severity.WARNING
            )
            return {}
        return {node.name: node for node in self.repository.tree(tree)}

    def _advance(self, frame: _Frame) -> _Frame | None:
        """Go through a directory up to its next subdirectory, or to its end."""
        for name in frame.names:
            try:
                stat = os.stat(name, dir_fd=frame.folder.fd, follow_symlinks=False)
            except FileNotFoundError:
                self.findings.note(frame.folder.child(name), WENT_AWAY, severity=Severity.WARNING)
                continue
            except OSError as error:
                self.findings.cannot_read(frame.folder.child(name), error, "it cannot be looked at")
                continue
            node_type = type_of(stat.st_mode)
            if node_type is NodeType.FILE:
                self._file(frame, name, stat)
                continue
            self._hand_over(frame)
            if node_type is not NodeType.DIR:
                self._special(frame, name, stat)
            elif child := self._enter(frame, name, stat):
                return child
        self._hand_over(frame)
        return None

    def _enter(self, frame: _Frame, name: str, stat: os.stat_result) -> _Frame | None:
        folder = Folder(-1, frame.folder.child(name))
        before = frame.before.get(name)
        try:
            folder.fd = self.source.open_folder(name, frame.folder)
            self._folders.add(folder.fd)
            self._open += 1
            names = self._names(folder.fd)
            stat = os.fstat(folder.fd)
        except FileNotFoundError:
            self.findings.note(folder.path, WENT_AWAY, severity=Severity.WARNING)
            return None
        except OSError as error:
            self.findings.cannot_read(folder.path, error, "the directory cannot be read: what is in it is missing")
            names = iter(())
        return _Frame(folder, name, stat, self._parent(before.subtree if before else "", folder.path), names)

    def _is_unchanged(self, frame: _Frame, name: str, stat: os.stat_result) -> bool:
        before = frame.before.get(name)
        if before is None or before.type is not NodeType.FILE or before.content is None:
            return False
        if (before.size, before.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
            return False
        if self.stable_inodes and (before.inode, before.ctime_ns) != (stat.st_ino, stat.st_ctime_ns):
            return False
        return all(self.writer.has(BlobKind.DATA, blob) for blob in before.content)

    def _file(self, frame: _Frame, name: str, stat: os.stat_result) -> None:
        """Take a file: unchanged, small and read with its neighbours, or large and read by a thread of its own."""
        unchanged = self._is_unchanged(frame, name, stat)
        if stat.st_size <= SMALL and not unchanged:
            frame.batch.append(name)
            frame.batch_bytes += stat.st_size
            if len(frame.batch) >= _BATCH_FILES or frame.batch_bytes >= _BATCH_BYTES:
                self._hand_over(frame)
            return
        self._hand_over(frame)
        if unchanged:
            self.unchanged += 1
            self._push(_Step(frame, self.source.unchanged(frame.folder, name, stat, frame.before[name])))
        else:
            self._push(_Step(frame, self._large.submit(_files, self.source, frame.folder, (name,))))

    def _special(self, frame: _Frame, name: str, stat: os.stat_result) -> None:
        try:
            node = self.source.special(frame.folder, name, stat)
        except OSError as error:
            self.findings.cannot_read(frame.folder.child(name), error, "it cannot be read")
            return
        if node is not None:
            self._push(_Step(frame, encode_node(node)))

    def _hand_over(self, frame: _Frame) -> None:
        """Let a thread read the small files that were gathered: what comes after them in the order comes later."""
        if frame.batch:
            self._push(_Step(frame, self.writer.workers.submit(_files, self.source, frame.folder, tuple(frame.batch))))
            frame.batch, frame.batch_bytes = [], 0

    def _push(self, step: _Step) -> None:
        self._steps.append(step)
        while len(self._steps) > _AHEAD or (self._open > _OPEN_FOLDERS and self._steps):
            self._assemble()

    def _assemble(self) -> None:
        """Do the oldest step: wait for it where it is not ready."""
        step = self._steps[0]
        self.source.progress.check()
        if isinstance(step.ready, Future):
            step.frame.entries.extend(step.ready.result())
        elif step.ready is not None:
            step.frame.entries.append(step.ready)
        else:
            self._finish(step.frame, step.parent)
        self._steps.popleft()

    def _finish(self, frame: _Frame, parent: _Frame | None) -> None:
        """Write a directory's tree, and put its entry into its parent."""
        subtree = self.writer.save_blob(BlobKind.TREE, join_nodes(frame.entries))
        frame.entries = []
        self.source.progress.path = frame.folder.path
        xattrs = self.source.xattrs(frame.folder, frame.name, frame.folder.fd) if frame.folder.fd >= 0 else ()
        node = self.source.node(frame.name, frame.stat, subtree=subtree, xattrs=xattrs)
        if frame.folder.fd >= 0:
            self._folders.discard(frame.folder.fd)
            self._open -= 1
            os.close(frame.folder.fd)
        self.dirs += 1
        if parent is None:
            self._root = node
        else:
            parent.entries.append(encode_node(node))


def _files(source: Source, folder: Folder, names: tuple[str, ...]) -> list[bytes]:
    return [entry for name in names if (entry := source.file(folder, name)) is not None]


def back_up_device(writer: Writer, path: str | os.PathLike[str], *, progress: Progress | None = None) -> Written:
    """Write a block device (or an image of one) as the file `disk.img` in a tree of its own, and flush. Zeros are not stored twice."""
    findings = Findings()
    source = Source(writer, findings, progress or Progress())
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PermanentError(
            f"the device cannot be opened: {os.strerror(error.errno or 0)}", where=os.fspath(path), hint="check that the volume is attached"
        ) from error
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        content = _device_content(source, fd, size)
        stat = os.fstat(fd)
    except OSError as error:
        raise NotFound(f"the device cannot be read to its end: {os.strerror(error.errno or 0)}", where=os.fspath(path)) from error
    finally:
        os.close(fd)
    image = Node.file(DISK_IMAGE, content=content, size=size, mode=0o600, mtime_ns=stat.st_mtime_ns)
    tree = writer.save_tree([image])
    root = Node.directory("", subtree=tree, mtime_ns=stat.st_mtime_ns)
    added = writer.flush().bytes_added
    return Written(tree=tree, root=root, files=1, dirs=1, bytes_read=source.bytes_read, bytes_total=size, bytes_added=added)


def _device_content(source: Source, fd: int, size: int) -> tuple[str, ...]:
    writer = source.writer
    content: list[str] = []
    waiting: deque[Future[str]] = deque()
    zeros = 0
    for place in range(0, size, BLOCK):
        data = _exactly(fd, min(BLOCK, size - place), place)
        source.count(len(data))
        if is_zero(data):
            content.extend(done.result() for done in waiting)
            waiting.clear()
            zeros += len(data)
            continue
        content.extend(source.zeros(zeros))
        zeros = 0
        waiting.append(writer.workers.submit(writer.save_blob, BlobKind.DATA, data))
        if len(waiting) > _BLOCKS_AHEAD:
            content.append(waiting.popleft().result())
    content.extend(done.result() for done in waiting)
    content.extend(source.zeros(zeros))
    return tuple(content)


def _exactly(fd: int, length: int, place: int) -> bytes:
    data = os.pread(fd, length, place)
    while len(data) < length:
        more = os.pread(fd, length - len(data), place + len(data))
        if not more:
            raise OSError(5, "it became shorter")
        data += more
    return data
