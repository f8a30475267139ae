"""Beginnings of prompts that outlive the process: what the KV cache held of them, as files.

A file is written whole under another name and then renamed, is never changed, and is believed only if its
checksum is right. The folder may be shared by processes and models; the oldest files make room.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAGIC = b"localq prefix 1\n"
DIGEST = 32
HEAD = len(MAGIC) + 2 * DIGEST + 4
"""The mark, SHA-256 of all that follows, the identity of what computed it, the count of tokens (u32)."""
ENDING = ".prefix"
MIN_TOKENS = 256
"""Shorter ones are computed faster than they are worth a file."""
MAX_TOKENS = 1 << 22
STALE_SECONDS = 3600.0
SAMPLES, SAMPLE_BYTES = 64, 4096


@dataclass(frozen=True)
class Kept:
    """A file, and the tokens that it holds the state of."""

    path: Path
    tokens: NDArray[np.int32]


class PrefixStore:
    """The kept beginnings for one model. For one thread; files are written in another one."""

    def __init__(
        self, folder: Path, limit_bytes: int, identity: bytes, notice: Callable[[str], None]
    ) -> None:
        """``identity`` (32 bytes) is of the model and of all that its states depend on; ``notice`` hears of
        files that are of no use. Raises OSError for a folder that cannot be made."""
        self._folder = folder
        self._limit = limit_bytes
        self._identity = identity
        self._notice = notice
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._kept: dict[str, Kept] = {}
        for path in folder.glob(f"*{ENDING}"):
            if (found := self._read_tokens(path)) is not None:
                self._kept[path.name] = Kept(path, found)
        make_room(folder, limit_bytes)

    def knows(self, tokens: Sequence[int]) -> bool:
        """Whether a beginning is kept, or on its way to the disk."""
        return self._name(tokens) in self._kept

    def longest(self, prompt: Sequence[int], than: int) -> Kept | None:
        """The longest kept beginning of ``prompt`` with more than ``than`` tokens, but not all of them."""
        best = None
        given = np.asarray(prompt, np.int32)
        for kept in self._kept.values():
            count = len(kept.tokens)
            if than < count < len(given) and np.array_equal(kept.tokens, given[:count]):
                best, than = kept, count
        return best

    def load(self, kept: Kept) -> memoryview | None:
        """The state in a file; None, and the file is forgotten, where it is gone or damaged."""
        try:
            data = kept.path.read_bytes()
            os.utime(kept.path)
        except FileNotFoundError:
            data = b""
        except OSError as error:
            self._notice(f"{kept.path} cannot be read: {error}")
            data = b""
        start = HEAD + 4 * len(kept.tokens)
        whole = memoryview(data)
        if len(data) > start and hashlib.sha256(whole[len(MAGIC) + DIGEST :]).digest() == self._digest(data):
            return whole[start:]
        del self._kept[kept.path.name]
        if data:
            self._notice(f"{kept.path} is damaged: it is ignored, and removed")
            with contextlib.suppress(OSError):
                kept.path.unlink()
        return None

    def keep(self, tokens: Sequence[int], state: bytes | bytearray) -> None:
        """Write the state of a beginning, in a thread of its own; not one above the limit."""
        if HEAD + 4 * len(tokens) + len(state) > self._limit:
            return
        name = self._name(tokens)
        values = np.asarray(tokens, np.int32)
        self._kept[name] = Kept(self._folder / name, values)
        threading.Thread(target=self._write, args=(name, values, state), name="prefix", daemon=True).start()

    def _write(self, name: str, tokens: NDArray[np.int32], state: bytes | bytearray) -> None:
        head = self._identity + len(tokens).to_bytes(4, "little") + tokens.astype("<i4").tobytes()
        digest = hashlib.sha256(head)
        digest.update(state)
        part = self._folder / f"{name}.{os.getpid()}.part"
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.writelines((MAGIC, digest.digest(), head, state))
            part.rename(self._folder / name)
            make_room(self._folder, self._limit)
        except OSError as error:
            self._notice(f"the beginning of a prompt was not kept: {error}")
            with contextlib.suppress(OSError):
                part.unlink()

    def _name(self, tokens: Sequence[int]) -> str:
        digest = hashlib.sha256(self._identity + np.asarray(tokens, "<i4").tobytes())
        return f"{digest.hexdigest()}{ENDING}"

    def _digest(self, data: bytes) -> bytes:
        return data[len(MAGIC) : len(MAGIC) + DIGEST]

    def _read_tokens(self, path: Path) -> NDArray[np.int32] | None:
        """The tokens of a file of this model's; None for another's, and for what is no such file."""
        try:
            with path.open("rb") as file:
                head = file.read(HEAD)
                count = int.from_bytes(head[-4:], "little")
                if len(head) == HEAD and head.startswith(MAGIC) and count <= MAX_TOKENS:
                    if head[len(MAGIC) + DIGEST : -4] != self._identity:
                        return None
                    tokens = np.frombuffer(file.read(4 * count), "<i4").astype(np.int32)
                    if self._name(tokens.tolist()) == path.name:
                        return tokens
        except ValueError:
            pass  # bytes that are no whole tokens
        except OSError:
            return None
        self._notice(f"{path} is damaged: it is ignored")
        return None


def make_room(folder: Path, limit_bytes: int) -> None:
    """Remove the files that were used the longest ago, until what is left is within the limit."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            state = path.stat()
            if path.name.endswith(ENDING):
                found.append((state.st_mtime, state.st_size, path))
            elif path.name.endswith(".part") and state.st_mtime < time.time() - STALE_SECONDS:
                path.unlink()
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size


def identity_of(paths: Sequence[str], *circumstances: object) -> bytes:
    """What a state is bound to: the files, by size, time and samples of their bytes, and the rest."""
    digest = hashlib.sha256(repr(circumstances).encode())
    for name in paths:
        with Path(name).open("rb") as file:
            state = os.fstat(file.fileno())
            digest.update(f"{state.st_size} {state.st_mtime_ns}".encode())
            for index in range(SAMPLES):
                file.seek(state.st_size * index // SAMPLES)
                digest.update(file.read(SAMPLE_BYTES))
    return digest.digest()
