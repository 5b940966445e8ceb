"""One entry of a directory by its name: of the others, which may be a million, nothing is made.

A directory that is laid out as restic and Becalm write it is searched as bytes; in any other the entries are read one by one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from becalm.repository.crypto import OVERHEAD
from becalm.repository.format import BlobId, BlobKind
from becalm.repository.listing import listing, slabs_of
from becalm.repository.node import read_entry
from becalm.repository.opening import LARGE
from becalm.repository.quoting import quote
from becalm.repository.scan import TREE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from becalm.repository.crypto import Buffer
    from becalm.repository.reader import Repository

_SAME_IN_JSON = re.compile(r"[ !#$%'()*+,\-./0-9:;=?@A-Z\[\]^_`a-z{|}~]+").fullmatch
"""Names that stand in a tree as they are, whoever wrote it."""


def entry_named(repository: Repository, tree_id: BlobId, name: str) -> dict[str, Any] | None:
    """Return the entry of a name as JSON gives it, or nothing. Raises: Damaged."""
    place = repository.locate(BlobKind.TREE, tree_id)
    where = f"{repository.store.url}: tree {tree_id}"
    if (place.blob.uncompressed_length or place.blob.length - OVERHEAD) > LARGE:
        return _among(listing(repository, tree_id), name, where=where)
    document = repository.blob(BlobKind.TREE, tree_id)
    found = in_document(document, name)
    return found if found is not None else _among(slabs_of(document, where=where), name, where=where)


def in_document(document: Buffer, name: str) -> dict[str, Any] | None:
    """Return the entry of a name where the directory is laid out as usual; nothing says nothing."""
    document = bytes(document)
    if _SAME_IN_JSON(name) is None or not document.startswith(TREE.opening):
        return None
    begin = document.find(f'{{"name":"{name}","type":'.encode())
    if begin < 0:
        return None
    following = TREE.boundary.search(document, begin)
    text = document[begin : following.start(1)] if following else document[begin:].rstrip().removesuffix(b"]}")
    try:
        found = orjson.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("name") == name else None


def _among(slabs: Iterable[list[dict[str, Any]]], name: str, *, where: str) -> dict[str, Any] | None:
    quoted = quote(name)
    for entries in slabs:
        for entry in entries:
            said = entry.get("name") if isinstance(entry, dict) else None
            if said == quoted or (isinstance(said, str) and "\\" in said and read_entry(entry, where=where).name == name):
                return entry
    return None
