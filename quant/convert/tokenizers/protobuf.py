"""The little of protocol buffers' wire format that a SentencePiece model needs.

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from quant.errors import CheckpointDamaged

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}


def fields(path: Path, data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: number, and a whole number or the field's bytes.

    Raises :class:`CheckpointDamaged`; ``path`` is the file that the message comes from.
    """
    position = 0
    while position < len(data):
        tag, position = _varint(path, data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _varint(path, data, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _varint(path, data, position)
        elif kind in _FIXED:
            length = _FIXED[kind]
        else:
            raise CheckpointDamaged(path, "bad-protobuf", f"has a field of the unknown kind {kind}")
        if length > len(data) - position:
            raise CheckpointDamaged(path, "truncated", "ends within a field; fetch it again")
        yield number, data[position : position + length]
        position += length


def _varint(path: Path, data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise CheckpointDamaged(path, "truncated", "ends within a number; fetch it again")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise CheckpointDamaged(path, "bad-protobuf", "has a number of more than ten bytes")
