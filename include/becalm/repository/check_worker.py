"""Reads one pack wholly: its header, and every blob in it, decrypted, decompressed and hashed.

It runs in the processes of a crew, or in this one by the same code. It knows keys and bytes; it has no store and no index: what
the index says of the pack comes with the pack.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import zstandard

from becalm.errors import Damaged
from becalm.repository.crypto import MAC, NONCE, OVERHEAD, MasterKey, unseal
from becalm.repository.opening import LARGE, LARGEST_BLOB, Opening, plain_parts
from becalm.repository.pack import decompress, read_header
from becalm.repository.scan import TREE, slabs
from becalm.repository.tree_facts import TreeFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from becalm.repository.crew import Answers
    from becalm.repository.crypto import Buffer

TASK = "becalm.repository.check_worker:PackReader"

_SPARE = 15
"""`update_into` asks for room for one more block, less a byte."""
_ID = 32
_LENGTH = struct.Struct("<I")
_PLAIN = struct.Struct("<BI32s")
_PACKED = struct.Struct("<BII32s")
_MOST_SCRATCH = 16 << 20


class Keys(NamedTuple):
    """The master key, in its parts."""

    encrypt: bytes
    mac_k: bytes
    mac_r: bytes

    def __repr__(self) -> str:
        """Leave the key out."""
        return "Keys(…)"


@dataclass(frozen=True, slots=True)
class Listed:
    """What the index says of a pack, in the order of the offsets: columns, for they travel between processes."""

    ids: bytes
    """Raw, one behind the other."""
    trees: bytes
    """One byte each: whether it is a tree."""
    offsets: bytes
    """Four bytes each, as are the next two: numbers of this machine."""
    lengths: bytes
    plains: bytes
    """The length of the plain text where it is compressed; nothing where it is not."""

    @property
    def longest(self) -> int:
        """The length of the longest plain text among what is compressed."""
        return max(memoryview(self.plains).cast("I"), default=0)

    def rows(self) -> Iterator[tuple[bytes, bool, int, int, int]]:
        """Yield each blob: raw id, whether it is a tree, offset, length, plain length."""
        columns = (memoryview(column).cast("I").tolist() for column in (self.offsets, self.lengths, self.plains))
        for place, (offset, length, plain) in enumerate(zip(*columns, strict=True)):
            yield self.ids[_ID * place : _ID * place + _ID], bool(self.trees[place]), offset, length, plain


@dataclass(slots=True)
class PackFound:
    """What a pack turned out to be."""

    pack: str
    size: int
    problems: list[str] = field(default_factory=list)
    lost: list[tuple[bool, bytes]] = field(default_factory=list)
    """The blobs of the index that cannot be read: whether it is a tree, and the raw id."""
    facts: TreeFacts | None = None
    """What the trees in it need."""


class PackReader:
    """Reads packs. Not for several threads. As a worker it finds them in slots, and answers with the slot and what it found."""

    def __init__(self, setup: Keys | None, answers: Answers | None = None) -> None:
        """Begin. The setup is the master key, or nothing: then it comes with the first message."""
        self._own_key = None if setup is None else MasterKey(*setup)
        self._answers = answers
        self._scratch = bytearray(1 << 20)
        self._inflate = zstandard.ZstdDecompressor(max_window_size=1 << 27)

    @property
    def _key(self) -> MasterKey:
        if self._own_key is None:
            raise ValueError("this reader has no key yet")
        return self._own_key

    def handle(self, message: Keys | tuple[int, int, str, Listed], files: Sequence[int]) -> None:  # noqa: ARG002  (the form of a worker)
        """Take the key, or read the pack in a slot."""
        if isinstance(message, Keys):
            self._own_key = MasterKey(*message)
            return
        slot, length, pack, listed = message
        if self._answers is None:
            raise ValueError("this reader has nobody to answer to")
        with memoryview(self._answers.slots[slot]) as whole, whole[:length] as body:
            found = self.read(pack, body, listed)
        self._answers.send((slot, found))

    def read(self, pack: str, body: memoryview, listed: Listed) -> PackFound:
        """Read a pack from its bytes; what is wrong stands in the answer."""
        found = PackFound(pack=pack, size=len(body), facts=TreeFacts() if any(listed.trees) else None)
        expected = bytearray()
        end = 0
        covered = True
        for raw, tree, offset, length, plain in listed.rows():
            covered = covered and offset == end
            problem = self._problem(body[offset : offset + length], raw, length, plain, found.facts if tree else None)
            if problem:
                found.problems.append(f"{'tree' if tree else 'blob'} {raw.hex()}: {problem}")
                found.lost.append((tree, raw))
            if covered:
                expected += _PACKED.pack(3 if tree else 2, length, plain, raw) if plain else _PLAIN.pack(1 if tree else 0, length, raw)
            end = offset + length
        authentic = covered and not found.problems and self._is_header(body, bytes(expected), end)
        if not authentic:
            found.problems += self._of_header(body, listed)
            if sha256(body).hexdigest() != pack:
                found.problems.append("the pack is not what its name says")
        return found

    def _problem(self, sealed: memoryview, raw: bytes, length: int, plain: int, facts: TreeFacts | None) -> str:
        """Say what is wrong with a blob, or nothing. A tree that is whole tells what it needs."""
        if len(sealed) != length:
            return f"of its {length} bytes {len(sealed)} are there"
        if facts is not None and (plain or length) > LARGE:
            return self._problem_of_large(sealed, raw, plain, facts)
        key = self._key
        nonce, middle = bytes(sealed[:NONCE]), sealed[NONCE:-MAC]
        if not hmac.compare_digest(key.mac(nonce, middle), sealed[-MAC:]):
            return "its authentication code does not fit: it was changed"
        inside = length - OVERHEAD
        scratch = self._room(inside + _SPARE)
        key.cipher(nonce).update_into(middle, scratch)
        with memoryview(scratch) as whole, whole[:inside] as view:
            try:
                data = self._decompress(view, plain) if plain else view
            except Damaged as error:
                return error.message
            if sha256(data).digest() != raw:
                return "it holds something else"
            if facts is not None:
                facts.add(raw, bytes(data))
        return ""

    def _problem_of_large(self, sealed: memoryview, raw: bytes, plain: int, facts: TreeFacts) -> str:
        """The same for a tree of very many entries: its plain text never stands in memory at once."""
        digest = sha256()
        found = TreeFacts()

        def parts() -> Iterator[Buffer]:
            for part in plain_parts(inner, plain, where=""):
                digest.update(part)
                yield part

        try:
            inner = Opening(self._key, sealed)
            found.add_slabs(raw, slabs(parts(), TREE))
        except Damaged as error:
            return error.message
        if found.problems:
            digest = sha256()
            for part in plain_parts(inner, plain, where=""):
                digest.update(part)
        if digest.digest() != raw:
            return "it holds something else"
        facts.take(found)
        facts.problems += found.problems
        return ""

    def _decompress(self, packed: memoryview, plain: int) -> bytes:
        """Return the plain text. Whatever is not as it should be is looked at again by the careful way. Raises Damaged."""
        if plain <= LARGEST_BLOB:
            try:
                data = self._inflate.decompress(packed, max_output_size=plain, allow_extra_data=False)
            except zstandard.ZstdError:
                data = b""
            if len(data) == plain:
                return data
        return decompress(packed, length=plain)

    def _room(self, length: int) -> bytearray:
        """Return a buffer with room for so many bytes; one of usual size is kept."""
        if length > _MOST_SCRATCH:
            return bytearray(length)
        if length > len(self._scratch):
            self._scratch = bytearray(min(_MOST_SCRATCH, 2 * length))
        return self._scratch

    def _is_header(self, body: memoryview, expected: bytes, end: int) -> bool:
        """Say whether after the blobs there is the header that the index makes, and nothing else.

        Then every byte of the pack was authenticated, where it lies: its hash would tell nothing more.
        """
        begin = len(body) - _LENGTH.size - len(expected) - OVERHEAD
        if begin != end or _LENGTH.unpack_from(body, len(body) - _LENGTH.size)[0] != len(expected) + OVERHEAD:
            return False
        try:
            return unseal(self._key, body[begin : -_LENGTH.size]) == expected
        except Damaged:
            return False

    def _of_header(self, body: memoryview, listed: Listed) -> list[str]:
        """Take the pack's own header apart, and compare it with what the index says."""
        try:
            own = {(bytes.fromhex(blob.id), blob.offset, blob.length, blob.uncompressed_length) for blob in read_header(self._key, body)}
        except Damaged as error:
            return [f"its header: {error.message}"]
        said = {(raw, offset, length, plain) for raw, _, offset, length, plain in listed.rows()}
        strange = [f"the index says that the blob {raw.hex()} lies in it, its header does not" for raw, *_ in sorted(said - own)]
        unknown = [f"its header names the blob {raw.hex()}, the index does not" for raw, *_ in sorted(own - said)]
        return strange + unknown
