"""Where a valid GGUF file keeps its numbers, and files in which one of them lies.

The walk is written a second time here, plainly: it shares no code with the reader under test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tests.hostile.gguf_bytes import ARRAY, FORMATS, STRING

KEPT_ELEMENTS = 3  # of each array, from either end


@dataclass(frozen=True)
class Field:
    """An integer of ``width`` bytes at ``position``."""

    name: str
    position: int
    width: int

    def lies(self, data: bytes) -> Iterator[int]:
        """Values that have broken readers; the last one is one more than the bytes that remain."""
        remaining = len(data) - self.position - self.width
        truth = int.from_bytes(data[self.position : self.position + self.width], "little")
        lies = (0, 1, -1, (1 << 31) - 1, 1 << 32, 1 << 63, remaining + 1, truth + 1, truth - 1)
        limit = 1 << 8 * self.width
        yield from sorted({lie % limit for lie in lies} - {truth})

    def flip(self, data: bytes, value: int) -> bytes:
        flipped = (value % (1 << 8 * self.width)).to_bytes(self.width, "little")
        return data[: self.position] + flipped + data[self.position + self.width :]


class _Walk:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.fields: list[Field] = []

    def number(self, name: str, width: int, *, keep: bool = True) -> int:
        if keep:
            self.fields.append(Field(name, self.at, width))
        value = int.from_bytes(self.data[self.at : self.at + width], "little")
        self.at += width
        return value

    def text(self, name: str, *, keep: bool = True) -> str:
        length = self.number(f"length of {name}", 8, keep=keep)
        if keep and length:
            self.fields.append(Field(f"first byte of {name}", self.at, 1))
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def value(self, key: str, kind: int) -> None:
        if kind == STRING:
            self.text(f"value of {key}")
        elif kind == ARRAY:
            element = self.number(f"element type of {key}", 4)
            count = self.number(f"count of {key}", 8)
            for index in range(count):
                keep = index < KEPT_ELEMENTS or index >= count - KEPT_ELEMENTS
                if element == STRING:
                    self.text(f"{key}[{index}]", keep=keep)
                else:
                    self.number(f"{key}[{index}]", struct.calcsize(FORMATS[element]), keep=keep)
        else:
            self.number(f"value of {key}", struct.calcsize(FORMATS[kind]))


def find_fields(data: bytes) -> list[Field]:
    """Every integer of a valid file's header, of long arrays the first and last."""
    walk = _Walk(data)
    walk.number("magic", 4)
    walk.number("version", 4)
    tensors = walk.number("tensor count", 8)
    for _ in range(walk.number("key count", 8)):
        key = walk.text("a key")
        walk.value(key, walk.number(f"type of {key}", 4))
    for _ in range(tensors):
        name = walk.text("a tensor's name")
        for dimension in range(walk.number(f"dimensions of {name}", 4)):
            walk.number(f"dimension {dimension} of {name}", 8)
        walk.number(f"type of {name}", 4)
        walk.number(f"offset of {name}", 8)
    return walk.fields


def mutants(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Each file in which one field lies, and what the lie is."""
    for field in find_fields(data):
        for lie in field.lies(data):
            yield f"{field.name} = {lie}", field.flip(data, lie)
