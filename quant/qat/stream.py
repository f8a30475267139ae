"""A stream: what lies behind a layer, or behind the last one, for all chunks of text, in a file."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from quant.qat.disk import reserve

Stream: TypeAlias = NDArray[np.float32]
"""[chunks, context, width]"""
Size: TypeAlias = tuple[int, int, int]

FLUSH_SECONDS: Final = 10.0
"""Of work a killed process loses at most, beside the part that it was at."""


class _Made(msgspec.Struct, frozen=True):
    """Beside a stream's file: what is in it, and how many chunks of that are on the disk."""

    of: str
    done: int


def digest(chunks: NDArray[np.int64]) -> str:
    """Names texts of tokens."""
    return sha256(f"{chunks.shape}".encode() + np.ascontiguousarray(chunks).tobytes()).hexdigest()


def fill(
    path: Path,
    size: Size,
    of: str,
    compute: Callable[[slice], Any],
    together: int,
    on_share: Callable[[float], None] = lambda share: None,
) -> Stream:
    """The stream that ``compute`` gives for slices of ``together`` chunks; ``of`` names what it is made of.

    What an interrupted call left of the same in ``path`` is taken, and all of it if it is whole. Raises
    :class:`quant.errors.NoRoom`.
    """
    done = _done(path, size, of)
    if done == size[0]:
        return open_stream(path, size)
    _note(path).unlink(missing_ok=True)
    reserve(path, 4 * int(np.prod(size)))
    stream = np.memmap(path, np.float32, "r+", shape=size)
    flushed = monotonic()
    try:
        for start in range(done, size[0], together):
            stream[start : start + together] = compute(slice(start, start + together))
            done = min(size[0], start + together)
            if monotonic() - flushed > FLUSH_SECONDS:
                _keep(path, stream, _Made(of, done))
                flushed = monotonic()
            on_share(done / size[0])
    finally:
        _keep(path, stream, _Made(of, done))
    return open_stream(path, size)


def open_stream(path: Path, size: Size) -> Stream:
    return np.memmap(path, np.float32, "r", shape=size)


def is_whole(path: Path, size: Size, of: str) -> bool:
    """Whether all of the stream is there."""
    return _done(path, size, of) == size[0]


def remove(path: Path) -> None:
    """A stream, if it is there, and what is noted of it."""
    _note(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _done(path: Path, size: Size, of: str) -> int:
    """Chunks of the stream that are there."""
    try:
        made = msgspec.json.decode(_note(path).read_bytes(), type=_Made)
        whole = path.stat().st_size == 4 * int(np.prod(size))
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return 0
    return made.done if whole and made.of == of and 0 <= made.done <= size[0] else 0


def _keep(path: Path, stream: Any, made: _Made) -> None:
    stream.flush()  # first: the note says what is on the disk
    temporary = _note(path).with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(made))
    temporary.replace(_note(path))


def _note(path: Path) -> Path:
    return path.with_name(f"made-{path.stem}.json")
