"""A repository, opened: its blobs, trees and files, each checked before anyone sees a byte of it.

It reads; what it writes are only the objects that begin a repository. New blobs are the writer's business.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

import zstandard

from becalm.errors import Damaged, NoRepository, NotFound, OtherRepository, PreconditionFailed
from becalm.repository.crypto import Kdf, MasterKey, add_key, seal, unlock, unseal
from becalm.repository.format import BlobKind, Config, Layout, NodeType, is_id
from becalm.repository.index_text import Ahead, Sought
from becalm.repository.node import Node, decode_tree
from becalm.repository.pack import compress, decompress, read_blob
from becalm.repository.superseded import superseded
from becalm.storage.base import Span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from becalm.repository.crypto import Buffer
    from becalm.repository.index import Index
    from becalm.repository.location import Location
    from becalm.storage.base import Key, ObjectStore

POLYNOMIAL = "3da3358b4dc173"
"""An irreducible polynomial: restic asks for one, and chunks by it; Becalm's own boundaries do not need it."""

_BLOCK = 512 << 10
_CACHED_BLOCKS = 48
_SMALL = 64 << 10
"""A data blob up to this size is read with its neighbours, as trees are."""
_LARGEST_DOCUMENT = 256 << 20


class _Blocks:
    """The blocks of packs that were read last: after a small blob, its neighbours are asked for next."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def read(self, place: Location, *, end: int) -> bytes:
        """Return the sealed bytes of a blob. `end` is where the pack's blobs end."""
        begin, stop = place.blob.offset, place.blob.offset + place.blob.length
        parts = [self._block(place.pack, number, end) for number in range(begin // _BLOCK, (stop - 1) // _BLOCK + 1)]
        first = begin // _BLOCK * _BLOCK
        joined = parts[0] if len(parts) == 1 else b"".join(parts)
        return joined[begin - first : stop - first]

    def _block(self, pack: str, number: int, end: int) -> bytes:
        with self._lock:
            held = self._held.get((pack, number))
            if held is not None:
                self._held.move_to_end((pack, number))
                return held
        offset = number * _BLOCK
        held = self._store.get(Layout.pack(pack), Span(offset=offset, length=min(_BLOCK, end - offset)))
        with self._lock:
            self._held[pack, number] = held
            while len(self._held) > _CACHED_BLOCKS:
                self._held.popitem(last=False)
        return held


@dataclass(slots=True, kw_only=True)
class Repository:
    """An opened repository. Safe for several threads."""

    store: ObjectStore
    id: str
    version: int
    key: MasterKey = field(repr=False)
    avoid: frozenset[str] = field(default=frozenset(), repr=False)
    """Packs that are not relied on: what lies only in them counts as unknown."""
    _index: Index | None = field(default=None, repr=False)
    _sought: Sought | None = field(default=None, repr=False)
    _ends: dict[str, int] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _loaded: set[Key] = field(default_factory=set, repr=False)
    _blocks: _Blocks = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Begin without anything read."""
        self._blocks = _Blocks(self.store)

    @property
    def index(self) -> Index:
        """Where the blobs lie; read at first use."""
        with self._lock:
            if self._index is None:
                self.refresh()
                assert self._index is not None
            return self._index

    def avoiding(self, packs: frozenset[str]) -> Repository:
        """Return the same repository, with nothing read, as it is without these packs: those that prune has marked."""
        return Repository(store=self.store, id=self.id, version=self.version, key=self.key, avoid=packs)

    def refresh(self) -> None:
        """Read the index objects that have come since. Blobs of index objects that went stay known until the next opening.

        A pack with a tombstone may be about to go, or be gone: what lies elsewhere too is found there.
        """
        from becalm.repository import index as index_module  # noqa: PLC0415  (for one file there is no need of numpy)

        with self._lock:
            into = self._index = self._index or index_module.Index(avoid=self.avoid)
            names = (info.key for info in self.store.list(Layout.INDEX))
            new = [key for key in names if is_id(key.removeprefix(Layout.INDEX)) and key not in self._loaded]
            marked = (
                frozenset(info.key.removeprefix(Layout.TOMBSTONES) for info in self.store.list(Layout.TOMBSTONES)) if new else frozenset()
            )
            index_module.load(new, self.load_index, into=into, last=marked)
            self._loaded.update(new)

    def load_index(self, key: Key) -> bytes:
        """Return an index object; a damaged one is empty where repair has put others in its place. Raises: NotFound, Damaged."""
        try:
            return self.load_document(key)
        except Damaged:
            if key.removeprefix(Layout.INDEX) in superseded(self.store):
                return b'{"packs":[]}'
            raise

    def load_document(self, key: Key) -> bytes:
        """Return the JSON of an object that is named by its hash (index, snapshot, lock). Raises: NotFound, Damaged."""
        return self._opened(key, self.store.get(key))

    def _opened(self, key: Key, sealed: bytes) -> bytes:
        where = self.where(key)
        if sha256(sealed).hexdigest() != key.rpartition("/")[2]:
            raise Damaged("the object is not what its name says", where=where)
        return self.open_document(sealed, where=where)

    def open_document(self, sealed: bytes, *, where: str) -> bytes:
        """Return the JSON of a sealed object, wherever it was stored. Raises: Damaged."""
        plain = bytes(unseal(self.key, sealed, where=where))
        if self.version < 2 or not plain or plain[:1] in (b"{", b"["):
            return plain
        if plain[0] != 2:
            raise Damaged(f"the object is encoded in a way ({plain[0]}) that is not known", where=where)
        try:
            declared = zstandard.frame_content_size(plain[1:])
        except zstandard.ZstdError as error:
            raise Damaged(f"the object cannot be decompressed: {error}", where=where) from error
        return _decompress_document(plain[1:], declared, where=where)

    def seal_document(self, document: bytes) -> tuple[bytes, str]:
        """Return an object as it is stored, and its name. It is read back once before it is handed out. Raises Damaged."""
        plain = b"\x02" + compress(document, level=3) if self.version > 1 else document
        sealed = bytes(seal(self.key, plain))
        if self.open_document(sealed, where="an object before it was written") != document:
            raise Damaged("an object did not come back as it was sealed", hint="this machine's memory or processor is at fault")
        return sealed, sha256(sealed).hexdigest()

    def save_document(self, prefix: str, document: bytes, *, retain_until: datetime | None = None) -> str:
        """Write an object that is named by its hash, once. Return its name."""
        sealed, name = self.seal_document(document)
        put_once(self.store, f"{prefix}{name}", sealed, retain_until=retain_until)
        return name

    def where(self, key: Key) -> str:
        """Name an object, for errors."""
        return f"{self.store.url}/{key}"

    def locate(self, kind: BlobKind, blob_id: str) -> Location:
        """Say where a blob lies. Raises Damaged where nothing knows it."""
        found = self.sought(kind, blob_id) or self.index.lookup(kind, blob_id)
        if found is None:
            raise Damaged(f"no index knows the {kind} blob {blob_id}", where=self.store.url, hint="run a check of the repository")
        return found

    def sought(self, kind: BlobKind, blob_id: str) -> Location | None:
        """Say where a blob lies, if that can be told before the index is read; once it is read, it answers. Nothing says nothing."""
        return self._sought.lookup(kind, blob_id) if self._sought is not None and self._index is None else None

    def seek_few(self, ahead: Ahead) -> None:
        """Seek the first few blobs in the text of the index objects, as they were fetched ahead."""
        self._sought = Sought(ahead, self._opened, avoid=self.avoid)

    def blob(self, kind: BlobKind, blob_id: str) -> bytes | bytearray:
        """Return a blob's plain text, checked. Raises: Damaged."""
        place = self.locate(kind, blob_id)
        key = Layout.pack(place.pack)
        try:
            if kind is BlobKind.TREE or place.blob.length <= _SMALL:
                sealed = self._blocks.read(place, end=self._end(place))
            else:
                sealed = self.store.get(key, Span(offset=place.blob.offset, length=place.blob.length))
        except NotFound as error:
            raise Damaged(f"the pack of the {kind} blob {blob_id} is gone", where=self.where(key)) from error
        return read_blob(self.key, sealed, place.blob, where=self.where(key))

    def sealed(self, place: Location) -> bytes:
        """Return a small blob as it lies in its pack, not checked; its neighbours are kept for the next one. Raises: Damaged."""
        try:
            return self._blocks.read(place, end=self._end(place))
        except NotFound as error:
            raise Damaged(
                f"the pack of the {place.blob.kind} blob {place.blob.id} is gone", where=self.where(Layout.pack(place.pack))
            ) from error

    def _end(self, place: Location) -> int:
        """Return an offset up to which the pack can be read: at least this blob's end, at best the pack's."""
        with self._lock:
            if self._index is None and self._sought is not None:
                return max(self._sought.ends.get(place.pack, 0), place.blob.offset + place.blob.length)
            if place.pack not in self._ends:
                self._ends.update(self.index.pack_ends())
            return max(self._ends.get(place.pack, 0), place.blob.offset + place.blob.length)

    def tree(self, tree_id: str) -> list[Node]:
        """Return the entries of a directory. Raises: Damaged."""
        return decode_tree(self.blob(BlobKind.TREE, tree_id), where=f"{self.store.url}: tree {tree_id}")

    def read_file(self, node: Node) -> Iterator[bytes | bytearray]:
        """Yield a file's content, blob by blob. Raises: Damaged."""
        if node.type is not NodeType.FILE:
            raise NotFound(f"{node.name!r} is a {node.type}, not a file")
        for blob_id in node.content or ():
            yield self.blob(BlobKind.DATA, blob_id)


def _decompress_document(packed: bytes, declared: int, *, where: str) -> bytes:
    if declared >= 0:
        if declared > _LARGEST_DOCUMENT:
            raise Damaged(f"the object says that it has {declared} bytes", where=where)
        return decompress(packed, length=declared, where=where)
    try:  # restic streams: the length is not said
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(packed) as stream:
            plain = stream.read(_LARGEST_DOCUMENT + 1)
    except zstandard.ZstdError as error:
        raise Damaged(f"the object cannot be decompressed: {error}", where=where) from error
    if len(plain) > _LARGEST_DOCUMENT:
        raise Damaged("the object is larger than any that is written", where=where)
    return plain


def put_once(store: ObjectStore, key: Key, body: Buffer, *, retain_until: datetime | None = None) -> None:
    """Write an object whose name is its hash. One that is there already, after a lost reply, is ours: its length must agree."""
    try:
        store.put(key, body, if_absent=True, retain_until=retain_until)
    except PreconditionFailed:
        found = store.head(key)
        if found.size != len(body):
            raise Damaged(
                f"the object is there already, with {found.size} bytes instead of {len(body)}", where=f"{store.url}/{key}"
            ) from None
        if retain_until is not None:
            store.retain(key, retain_until)


def open_repository(store: ObjectStore, password: str, *, few: bool = False) -> Repository:
    """Open a repository by one of its passwords. `few`: only a few blobs are expected to be asked for.

    Raises: NoRepository, OtherRepository, WrongPassword, Damaged.
    """
    where = f"{store.url}/{Layout.CONFIG}"
    ahead = Ahead(store) if few else None
    try:
        sealed = store.get(Layout.CONFIG)
    except NotFound as error:
        raise _without_config(store) from error
    try:
        key, _ = unlock(store, password, opens=sealed)
    except NoRepository as error:  # there is a config
        raise Damaged(
            "the repository has lost its keys",
            where=f"{store.url}/{Layout.KEYS}",
            hint="put a copy of a key back; without one nothing can be read",
        ) from error
    config = Config.decode(bytes(unseal(key, sealed, where=where)), where=where)
    repository = Repository(store=store, id=config.id, version=config.version, key=key)
    if ahead is not None:
        repository.seek_few(ahead)
    return repository


_OWN = (Layout.KEYS, Layout.DATA, Layout.INDEX, Layout.SNAPSHOTS, Layout.LOCKS, "becalm/")


def _without_config(store: ObjectStore) -> NoRepository | OtherRepository | Damaged:
    """Say what a place without a config is."""
    seen: set[str] = set()
    for info in store.list(""):
        top = info.key.partition("/")[0] + "/"
        if top not in _OWN:
            return OtherRepository(
                f"there is no repository here, but something else: {info.key}",
                where=store.url,
                hint="choose another prefix in the target's URL",
            )
        seen.add(top)
        if top not in ("becalm/", Layout.KEYS):
            return Damaged(
                f"the repository has lost its config: there are still objects such as {info.key}",
                where=store.url,
                hint="put the config back",
            )
    return NoRepository("there is no repository here yet", where=store.url, hint="make one with: becalm init")


def init_repository(
    store: ObjectStore, password: str, *, version: int = 2, kdf: Kdf | None = None, hostname: str = "", retain_until: datetime | None = None
) -> Repository:
    """Make a repository, or raise. Nothing that exists is touched; of two at once, one wins and the other raises.

    Raises: OtherRepository (there is a repository, or something else), Damaged (there is one that lost its config).
    """
    if version not in (1, 2):
        raise ValueError(f"there is no version {version}")
    try:
        store.head(Layout.CONFIG)
    except NotFound as error:
        found = _without_config(store)
        if not isinstance(found, NoRepository):
            raise found from error
    else:
        raise _there(store)
    key = MasterKey.random()
    config = Config(version=version, id=os.urandom(32).hex(), chunker_polynomial=POLYNOMIAL)
    created_key = add_key(store, key, password, created=store.now(), hostname=hostname, kdf=kdf, retain_until=retain_until)
    sealed = bytes(seal(key, config.encode()))
    try:
        store.put(Layout.CONFIG, sealed, if_absent=True, retain_until=retain_until)
    except PreconditionFailed as error:
        if store.get(Layout.CONFIG) != sealed:
            if retain_until is None:
                store.delete(Layout.key(created_key))
            raise _there(store) from error
    return Repository(store=store, id=config.id, version=version, key=key)


def _there(store: ObjectStore) -> OtherRepository:
    return OtherRepository(
        "there is a repository already", where=store.url, hint="open it with its password, or choose another prefix in the target's URL"
    )


def checked_id(text: str) -> str:
    """Return an id, or raise NotFound where the text is none."""
    if not is_id(text):
        raise NotFound(f"{text!r} is not an id of 64 hexadecimal digits")
    return text
