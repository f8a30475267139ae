"""Reading a file that nobody vouches for: regular files only, forward, in bounded chunks, never mapped.

A mapped file that shrinks kills its reader with SIGBUS; ``pread`` of one returns fewer bytes, which becomes a
:class:`GgufError` here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from typing import Any, Final

from runtime.errors import GgufError

CHUNK_BYTES: Final = 1 << 20

_U64 = Struct("<Q")


class Source:
    """An open file of ``size`` bytes and a position in it. Every request is checked against what remains."""

    def __init__(self, fd: int, path: Path, size: int) -> None:
        self.fd = fd
        self.path = path
        self.size = size
        self._limit = size
        self._buffer = b""
        self._base = 0  # file offset of the buffer
        self._at = 0  # position in the buffer

    @property
    def position(self) -> int:
        return self._base + self._at

    @property
    def remaining(self) -> int:
        return self.size - self.position

    def limit_to(self, nbytes: int) -> None:
        """From here on no more than ``nbytes`` bytes are read, or skipped."""
        self._limit = self.position + nbytes

    def refuse(self, rule: str, reason: str) -> GgufError:
        """The error for the caller to raise."""
        if rule == "truncated":
            reason = f"{reason}: the file is incomplete; fetch it again"
        return GgufError(self.path, rule, reason)

    def require(self, nbytes: int, what: str) -> None:
        """Raises unless ``nbytes`` more bytes exist, within the limit."""
        if nbytes > self.remaining:
            raise self.refuse(
                "truncated",
                f"{what} at byte {self.position} needs {nbytes} bytes, {self.remaining} remain in the file",
            )
        if self.position + nbytes > self._limit:
            raise self.refuse(
                "metadata-too-long", f"{what} would end past byte {self._limit}; metadata may not"
            )

    def take(self, nbytes: int, what: str) -> bytes:
        """The next ``nbytes`` bytes; the caller has limited them."""
        if nbytes > len(self._buffer) - self._at:
            self.require(nbytes, what)
            self._refill(nbytes)
        start = self._at
        self._at = start + nbytes
        return self._buffer[start : self._at]

    def unpack(self, layout: Struct, what: str) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size, what))

    def skip(self, nbytes: int, what: str) -> None:
        """Moves over ``nbytes`` bytes without reading them."""
        self.require(nbytes, what)
        self.seek(self.position + nbytes)

    def u64(self, what: str) -> int:
        value: int = _U64.unpack(self.take(8, what))[0]
        return value

    def seek(self, position: int) -> None:
        """Moves to ``position``, which lies inside the file."""
        at = position - self._base
        if 0 <= at <= len(self._buffer):
            self._at = at
        else:
            self._buffer, self._base, self._at = b"", position, 0

    def strings(self, count: int, limit: int, what: str) -> Iterator[list[bytes]]:
        """The next ``count`` strings (u64 length, bytes), in lists; none of them longer than ``limit``."""
        unpack = _U64.unpack_from
        while count:
            buffer, at = self._buffer, self._at
            last = len(buffer) - 8
            start = at
            found: list[bytes] = []
            append = found.append
            for _ in range(count):
                if at > last:
                    break
                (length,) = unpack(buffer, at)
                start = at + 8
                at = start + length
                append(buffer[start:at])
            if at > len(buffer):  # the last string reaches past the buffer
                found.pop()
                at = start - 8
            if found and max(map(len, found)) > limit:
                raise self._too_long(next(len(text) for text in found if len(text) > limit), limit, what)
            self._at = at
            count -= len(found)
            if found:
                yield found
            if count:
                self._fill_string(limit, what)

    def skim(self, pattern: re.Pattern[bytes]) -> bytes:
        """Moves over what ``pattern`` matches of the bytes at hand, and returns them (maybe none)."""
        start = self._at
        if match := pattern.match(self._buffer, start):
            self._at = match.end()
        return self._buffer[start : self._at]

    def read_at(self, position: int, least: int) -> bytes:
        """At least ``least`` bytes, which the file should have; fewer if it became shorter."""
        return pread(self.fd, max(least, min(CHUNK_BYTES, self.size - position)), position)

    def _fill_string(self, limit: int, what: str) -> None:
        """Makes the whole string at the position available."""
        (length,) = _U64.unpack(self.take(8, what))
        self._at -= 8
        if length > limit:
            raise self._too_long(length, limit, what)
        self.require(8 + length, what)
        self._refill(8 + length)

    def _too_long(self, length: int, limit: int, what: str) -> GgufError:
        return self.refuse("string-too-long", f"{what} has {length} bytes; at most {limit} are accepted")

    def _refill(self, nbytes: int) -> None:
        """Makes at least ``nbytes`` bytes available at the position; ``nbytes`` <= ``remaining``."""
        position = self.position
        buffer = self.read_at(position, nbytes)
        if len(buffer) < nbytes:
            raise self.refuse("shrunk", f"the file became shorter while it was read, at byte {position}")
        self._buffer, self._base, self._at = buffer, position, 0


def pread(fd: int, nbytes: int, position: int) -> bytes:
    """``nbytes`` bytes, or as many as the file has."""
    parts = []
    while nbytes:
        part = os.pread(fd, nbytes, position)
        if not part:
            break
        parts.append(part)
        nbytes -= len(part)
        position += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


@contextmanager
def open_source(path: Path | str) -> Iterator[Source]:
    """Opens a regular file for reading; anything else is refused without waiting for it.

    Raises :class:`GgufError` with the rule ``not-found``, ``not-a-file`` or ``unreadable``.
    """
    path = Path(path)
    try:
        # A device is not even opened: opening some has effects.
        _require_regular(path, path.stat().st_mode)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise GgufError(path, "not-found", "no such file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GgufError(path, "unreadable", f"cannot be opened: {reason}") from error
    try:
        status = os.fstat(fd)
        _require_regular(path, status.st_mode)
        try:
            yield Source(fd, path, status.st_size)
        except OSError as error:
            raise GgufError(path, "unreadable", f"reading failed: {error.strerror}") from error
    finally:
        os.close(fd)


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = {
            stat.S_IFDIR: "a directory",
            stat.S_IFIFO: "a pipe",
            stat.S_IFCHR: "a device",
            stat.S_IFBLK: "a device",
            stat.S_IFSOCK: "a socket",
        }.get(stat.S_IFMT(mode), "not a regular file")
        raise GgufError(path, "not-a-file", f"is {kind}, not a GGUF file")
