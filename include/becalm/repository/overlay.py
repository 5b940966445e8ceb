"""One tree laid over another: what the upper one has takes the place of what is there, and everything else stays as it is.

Unlike `tree.join`, a folder that both have keeps the owner, the mode and the times that it has below: the folders of the upper tree only say
where its files go. Nothing here touches a file system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from becalm.repository.format import NodeType
from becalm.repository.tree import with_subtree

if TYPE_CHECKING:
    from becalm.repository.format import BlobId
    from becalm.repository.reader import Repository
    from becalm.repository.writer import Writer


def lay(repository: Repository, writer: Writer, lower: BlobId, upper: BlobId) -> BlobId:
    """Return the tree of the lower one with the upper over it. Both must be in the repository: flush what has just written them.

    Only the folders on the upper tree's ways are read. Raises: Damaged.
    """
    found = {node.name: node for node in repository.tree(lower)}
    for node in repository.tree(upper):
        below = found.get(node.name)
        if below is None or below.type is not NodeType.DIR or node.type is not NodeType.DIR:
            found[node.name] = node
        else:
            found[node.name] = with_subtree(below, name=node.name, subtree=lay(repository, writer, below.subtree, node.subtree))
    return writer.save_tree(found.values())
