"""Keys, sealing and opening: AES-256 in counter mode with Poly1305-AES, as restic's format has it.

Sealed bytes are `nonce (16) | cipher text | MAC (16)`. The MAC is checked before anything is decrypted. A blob has no
associated data: whoever opens one must also compare its id.
"""

from __future__ import annotations

import binascii
import hmac
import os
import threading
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import UTC
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.poly1305 import Poly1305

from becalm.errors import Damaged, NoRepository, PreconditionFailed, WrongPassword
from becalm.repository.format import Layout, read_json

if TYPE_CHECKING:
    from datetime import datetime

    from becalm.storage.base import ObjectStore

Buffer: TypeAlias = bytes | bytearray | memoryview

NONCE = 16
MAC = 16
OVERHEAD = NONCE + MAC
"""Bytes that sealing adds."""

_SPARE = 15
"""`update_into` asks for room for one more block, less a byte."""

_MOST_SCRYPT_BYTES = 256 << 20
_MOST_SCRYPT_PASSES = 64
_MOST_KEY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class MasterKey:
    """The one key of a repository. Each password's key file holds a copy of it."""

    encrypt: bytes = field(repr=False)
    mac_k: bytes = field(repr=False)
    mac_r: bytes = field(repr=False)
    _local: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse keys that are no keys."""
        if (len(self.encrypt), len(self.mac_k), len(self.mac_r)) != (32, 16, 16) or not (
            any(self.encrypt) and any(self.mac_k) and any(self.mac_r)
        ):
            raise Damaged("the master key has the wrong form")

    @classmethod
    def random(cls) -> MasterKey:
        """Make a new one."""
        return cls(os.urandom(32), os.urandom(16), os.urandom(16))

    def encode(self) -> bytes:
        """Write it as restic does. The result is a secret."""
        mac = {"k": b64encode(self.mac_k).decode(), "r": b64encode(self.mac_r).decode()}
        return orjson.dumps({"mac": mac, "encrypt": b64encode(self.encrypt).decode()})

    @classmethod
    def decode(cls, document: Buffer, *, where: str) -> MasterKey:
        """Read it. Raises Damaged."""
        found = read_json(document, where=where)
        try:
            mac = found["mac"]
            return cls(b64decode(found["encrypt"]), b64decode(mac["k"]), b64decode(mac["r"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Damaged("the master key cannot be read", where=where) from error

    def cipher(self, nonce: bytes) -> CipherContext:
        """Return a stream cipher at its start; counter mode goes the same way in both directions. One per thread is kept."""
        ready: CipherContext | None = getattr(self._local, "stream", None)
        if ready is None:
            ready = Cipher(algorithms.AES(self.encrypt), modes.CTR(nonce)).encryptor()
            self._local.stream = ready
        else:
            ready.reset_nonce(nonce)
        return ready

    def mac(self, nonce: bytes, data: Buffer) -> bytes:
        """Return the MAC: Poly1305 with a one-time key of this nonce."""
        block: CipherContext | None = getattr(self._local, "block", None)
        if block is None:
            block = Cipher(algorithms.AES(self.mac_k), modes.ECB()).encryptor()  # noqa: S305  one block, as Poly1305-AES defines it
            self._local.block = block
        return Poly1305.generate_tag(self.mac_r + block.update(nonce), data)


def seal(key: MasterKey, plain: Buffer) -> bytearray:
    """Encrypt and authenticate, under a new nonce."""
    length = len(plain)
    sealed = bytearray(OVERHEAD + length)
    nonce = os.urandom(NONCE)
    sealed[:NONCE] = nonce
    view = memoryview(sealed)
    key.cipher(nonce).update_into(plain, view[NONCE:])
    sealed[NONCE + length :] = key.mac(nonce, view[NONCE : NONCE + length])
    return sealed


def unseal(key: MasterKey, sealed: Buffer, *, where: str = "") -> bytearray:
    """Check and decrypt. Raises Damaged before anything is decrypted."""
    if len(sealed) < OVERHEAD:
        raise Damaged(f"{len(sealed)} bytes are too few for anything sealed", where=where)
    view = memoryview(sealed)
    nonce, middle, mac = bytes(view[:NONCE]), view[NONCE:-MAC], view[-MAC:]
    if not hmac.compare_digest(key.mac(nonce, middle), mac):
        raise Damaged("the authentication code does not fit: the object was changed, or is of another repository", where=where)
    plain = bytearray(len(middle) + _SPARE)
    key.cipher(nonce).update_into(middle, plain)
    del plain[len(middle) :]
    return plain


def is_sealed_by(key: MasterKey, sealed: Buffer) -> bool:
    """Say whether this key opens it."""
    try:
        unseal(key, sealed)
    except Damaged:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Kdf:
    """What it costs to try a password (scrypt)."""

    n: int = 1 << 15
    r: int = 8
    p: int = 1

    def derive(self, password: str, salt: bytes, *, where: str = "") -> MasterKey:
        """Make the key that seals the master key. Raises Damaged where the cost is out of bounds: it is checked before it is paid."""
        sane = self.n > 1 and self.n & (self.n - 1) == 0 and self.r > 0 and self.p > 0
        if not sane or 128 * self.n * self.r > _MOST_SCRYPT_BYTES or self.p > _MOST_SCRYPT_PASSES:
            raise Damaged(f"the key asks for scrypt with N={self.n}, r={self.r}, p={self.p}, which is out of bounds", where=where)
        derived = Scrypt(salt=salt, length=64, n=self.n, r=self.r, p=self.p).derive(password.encode())
        return MasterKey(derived[:32], derived[32:48], derived[48:64])


def add_key(
    store: ObjectStore,
    key: MasterKey,
    password: str,
    *,
    created: datetime,
    hostname: str = "",
    username: str = "becalm",
    kdf: Kdf | None = None,
    retain_until: datetime | None = None,
) -> str:
    """Seal the master key under a password and store it. Return the new key's id."""
    kdf = kdf or Kdf()
    salt = os.urandom(64)
    document: dict[str, Any] = {
        "created": created.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "username": username,
        "hostname": hostname,
        "kdf": "scrypt",
        "N": kdf.n,
        "r": kdf.r,
        "p": kdf.p,
        "salt": b64encode(salt).decode(),
        "data": b64encode(seal(kdf.derive(password, salt), key.encode())).decode(),
    }
    body = orjson.dumps(document)
    key_id = sha256(body).hexdigest()
    try:
        store.put(Layout.key(key_id), body, if_absent=True, retain_until=retain_until)
    except PreconditionFailed:
        if store.get(Layout.key(key_id)) != body:
            raise
    return key_id


def unlock(store: ObjectStore, password: str, *, opens: Buffer | None = None) -> tuple[MasterKey, str]:
    """Find a key that this password opens. Return the master key and the key's id.

    `opens` is something sealed that the master key must open, too: of two that made a repository at once, one left its key behind.
    Raises: NoRepository (there is no key), WrongPassword, Damaged (the only keys there are cannot be read, or open nothing else).
    """
    damaged: Damaged | None = None
    tried = 0
    foreign = False
    for info in store.list(Layout.KEYS):
        where = f"{store.url}/{info.key}"
        try:
            if info.size > _MOST_KEY_BYTES:
                raise Damaged(f"a key of {info.size} bytes is none", where=where)  # noqa: TRY301  kept for the case that no other key opens
            master = _open_key(store.get(info.key), info.key, password, where=where)
        except Damaged as error:
            damaged = error
            continue
        tried += 1
        if master is not None and opens is not None and not is_sealed_by(master, opens):
            damaged = Damaged(
                "the key opens with this password, but the config does not open with the key",
                where=where,
                hint="put a copy of the config back; without it nothing can be read",
            )
            foreign = True
        elif master is not None:
            return master, info.key.removeprefix(Layout.KEYS)
    if tried and not foreign:
        raise WrongPassword(
            f"none of the {tried} keys opens with this password",
            where=store.url,
            hint="check the connection or the file that holds the repository's password",
        )
    if damaged is not None:
        raise damaged
    raise NoRepository(
        "there is no repository here", where=store.url, hint="check the target's URL, or make a repository with: becalm init"
    )


def open_key(store: ObjectStore, key_id: str, password: str) -> MasterKey | None:
    """Return the master key out of one key, or nothing where its password is another. Raises: NotFound, Damaged."""
    key = Layout.key(key_id)
    return _open_key(store.get(key), key, password, where=f"{store.url}/{key}")


def _open_key(body: bytes, name: str, password: str, *, where: str) -> MasterKey | None:
    """Return the master key, or nothing where the password is another. Raises Damaged."""
    if sha256(body).hexdigest() != name.removeprefix(Layout.KEYS):
        raise Damaged("the key is not what its name says", where=where)
    found = read_json(body, where=where)
    try:
        kdf = Kdf(n=int(found["N"]), r=int(found["r"]), p=int(found["p"]))
        salt, data, kind = b64decode(found["salt"]), b64decode(found["data"]), found["kdf"]
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise Damaged("the key cannot be read", where=where) from error
    if kind != "scrypt" or len(data) < OVERHEAD:
        raise Damaged(f"the key is made with {kind!r}; only scrypt is known", where=where)
    user = kdf.derive(password, salt, where=where)
    try:
        plain = unseal(user, data)
    except Damaged:
        return None  # how a wrong password shows
    return MasterKey.decode(plain, where=where)
