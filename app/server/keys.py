"""Keys that clients have to bring: random, kept as hashes only, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from app.errors import WrongUse
from app.store import disk
from app.store.temporary import StagedFile

PREFIX = "lq-"
FILE = "server/keys.json"


class StoredKey(msgspec.Struct, frozen=True):
    """``digest``: sha256 of the key, in hexadecimal. A random key of 256 bits needs no slow hash."""

    name: str
    digest: str
    created: int
    hint: str
    """The last four characters, to tell keys apart."""


class KeyRing:
    """Keys of one server. Empty: none is needed."""

    def __init__(self, keys: Iterable[tuple[str, bytes]] = ()) -> None:
        """``keys``: names and sha256 digests."""
        self._keys = tuple(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, given: bytes) -> str | None:
        """The name of a key. Takes the same time whichever key it is, and however much of it is right."""
        digest = hashlib.sha256(given).digest()
        found: str | None = None
        for name, known in self._keys:
            if hmac.compare_digest(digest, known):
                found = name
        return found


def make_ring(stored: Iterable[StoredKey], given: Iterable[str] = ()) -> KeyRing:
    """Stored keys, and those that were given in the clear."""
    entries = [(key.name, bytes.fromhex(key.digest)) for key in stored]
    entries += [(f"key {at + 1}", hashlib.sha256(key.encode()).digest()) for at, key in enumerate(given)]
    return KeyRing(entries)


class KeyFile:
    """The keys of a store's folder, in a file for its owner only."""

    def __init__(self, home: Path) -> None:
        self.path = home / FILE

    def read(self) -> list[StoredKey]:
        """All keys. Raises WrongUse for a file that cannot be read: no key is better than the wrong ones."""
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return []
        try:
            return msgspec.json.decode(raw, type=list[StoredKey])
        except (msgspec.DecodeError, ValueError) as error:
            raise WrongUse(f"{self.path} is damaged ({error}); remove it, and make new keys") from None

    def new(self, name: str) -> str:
        """A new key under ``name``; this is the only time that it is seen. Raises WrongUse for a taken
        name."""
        keys = self.read()
        if any(key.name == name for key in keys):
            raise WrongUse(f"there is a key called {name!r} already; choose another name, or remove that one")
        key = PREFIX + secrets.token_urlsafe(32)
        digest = hashlib.sha256(key.encode()).hexdigest()
        self._write([*keys, StoredKey(name, digest, int(time.time()), key[-4:])])
        return key

    def remove(self, name: str) -> None:
        """Forget a key. Raises WrongUse for an unknown one."""
        keys = self.read()
        kept = [key for key in keys if key.name != name]
        if len(kept) == len(keys):
            known = ", ".join(repr(key.name) for key in keys) or "none"
            raise WrongUse(f"there is no key called {name!r}; there are: {known}")
        self._write(kept)

    def _write(self, keys: list[StoredKey]) -> None:
        raw = msgspec.json.encode(keys)
        disk.make_directory(self.path.parent)
        self.path.parent.chmod(0o700)
        with StagedFile(self.path.parent, len(raw)) as staged:
            staged.write(raw)
            staged.seal()
            staged.publish(self.path)
