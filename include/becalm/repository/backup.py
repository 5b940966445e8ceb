"""A mounted volume, or a block device, into a tree of the repository.

The walk goes through the directories in the order of the names, and reads the parent's trees beside them: a file that has not
changed costs no read. Others are read by workers, in batches. A directory's tree is written once all that is in it is known; one
that is the same as before is not written again. It makes nothing visible: that is the snapshot's business.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from becalm.errors import NotFound, PermanentError
from becalm.repository.content import Contents
from becalm.repository.frame import Folders
from becalm.repository.hands import Hands
from becalm.repository.node import Node
from becalm.repository.progress import Progress
from becalm.repository.scheme import fixed_piece
from becalm.repository.source import Findings, Source
from becalm.repository.walk import Walk

if TYPE_CHECKING:
    from becalm.model import Finding
    from becalm.repository.reader import Repository
    from becalm.repository.scouts import Scouts
    from becalm.repository.writer import Writer

DISK_IMAGE = "disk.img"
"""The one file in the tree of a block device."""


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


def back_up_directory(
    repository: Repository,
    writer: Writer,
    path: str | os.PathLike[str],
    *,
    parent_tree: str = "",
    stable_inodes: bool = True,
    access_times: bool = False,
    progress: Progress | None = None,
    workers: int | None = None,
    scouts: Scouts | None = None,
) -> Written:
    """Write a directory and all that is in it, and flush the writer. One that cannot be opened is an error, not an empty tree.

    `parent_tree` is the same directory's tree in an earlier snapshot. `stable_inodes` says that inode and time of change
    survive between the two, so that they too must agree for a file to count as unchanged. `workers` is for `Hands`, `scouts` were
    sent ahead into the directory.
    """
    progress = progress or Progress()
    findings = Findings()
    hands = Hands(writer, progress, access_times=access_times, workers=workers, first=not parent_tree)
    source = Source(findings, access_times=access_times)
    folders = Folders(source)
    walk = Walk(repository, writer, source, hands, progress, folders=folders, stable_inodes=stable_inodes, workers=workers, scouts=scouts)
    try:
        root = walk.run(os.fspath(path), parent_tree)
        hands.finish()
        added = writer.flush().bytes_added
    finally:
        folders.close()
        hands.close()
    return Written(
        tree=root.subtree,
        root=root,
        files=progress.files,
        dirs=walk.dirs,
        unchanged=walk.unchanged,
        bytes_read=hands.bytes_read,
        bytes_total=progress.bytes,
        bytes_added=added,
        unreadable=findings.all_unreadable(),
        notes=findings.all_notes(),
    )


def back_up_device(
    writer: Writer, path: str | os.PathLike[str], *, progress: Progress | None = None, workers: int | None = None
) -> Written:
    """Write a block device (or an image of one) as the file `disk.img` in a tree of its own, and flush. Zeros are not stored twice."""
    progress = progress or Progress()
    hands = Hands(writer, progress, workers=workers)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PermanentError(
            f"the device cannot be opened: {os.strerror(error.errno or 0)}", where=os.fspath(path), hint="check that the volume is attached"
        ) from error
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        content = _device_content(Contents(hands, writer), hands, fd, size, where=os.fspath(path))
        stat = os.fstat(fd)
        hands.finish()
        image = Node.file(DISK_IMAGE, content=content, size=size, mode=0o600, mtime_ns=stat.st_mtime_ns)
        tree = writer.save_tree([image])
        added = writer.flush().bytes_added
    finally:
        os.close(fd)
        hands.close()
    root = Node.directory("", subtree=tree, mtime_ns=stat.st_mtime_ns)
    return Written(tree=tree, root=root, files=1, dirs=1, bytes_read=hands.bytes_read, bytes_total=size, bytes_added=added)


def _device_content(contents: Contents, hands: Hands, fd: int, size: int, *, where: str) -> tuple[str, ...]:
    answers: list[tuple[tuple[str, ...], int, int]] = []
    extents = [(True, 0, size)] if size else []
    contents.read(fd, extents, piece=fixed_piece(size), then=lambda *answer: answers.append(answer))
    hands.settle()
    content, length, error = answers[0]
    if error or length < size:
        reason = os.strerror(error) if error else "it became shorter"
        raise NotFound(f"the device cannot be read to its end: {reason}", where=where)
    return content
