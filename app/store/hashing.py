"""Reading files to their end, and hashing them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator

CHUNK_BYTES = 1 << 20


def read_chunks(fd: int) -> Iterator[memoryview]:
    """The bytes from the start of the file to its end. A chunk is valid until the next one is asked for."""
    view = memoryview(bytearray(CHUNK_BYTES))
    os.lseek(fd, 0, os.SEEK_SET)
    while count := os.readv(fd, [view]):
        yield view[:count]


def hash_file(fd: int, on_bytes: Callable[[int], None]) -> tuple[str, int]:
    """``sha256-<hex>`` and the number of bytes; ``on_bytes`` gets the length of every chunk read."""
    state = hashlib.sha256()
    size = 0
    for chunk in read_chunks(fd):
        state.update(chunk)
        size += len(chunk)
        on_bytes(len(chunk))
    return f"sha256-{state.hexdigest()}", size
