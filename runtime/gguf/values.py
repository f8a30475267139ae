"""The value types of GGUF metadata, and arrays as places in the file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct, unpack
from typing import TypeAlias


class ValueType(IntEnum):
    """Type of a metadata value, as in the GGUF specification."""

    U8 = 0
    I8 = 1
    U16 = 2
    I16 = 3
    U32 = 4
    I32 = 5
    F32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    U64 = 10
    I64 = 11
    F64 = 12


SCALARS: dict[int, Struct] = {
    ValueType.U8: Struct("<B"),
    ValueType.I8: Struct("<b"),
    ValueType.U16: Struct("<H"),
    ValueType.I16: Struct("<h"),
    ValueType.U32: Struct("<I"),
    ValueType.I32: Struct("<i"),
    ValueType.F32: Struct("<f"),
    ValueType.BOOL: Struct("<B"),
    ValueType.U64: Struct("<Q"),
    ValueType.I64: Struct("<q"),
    ValueType.F64: Struct("<d"),
}
"""Layout of every type of fixed size."""


@dataclass(frozen=True, slots=True)
class ArrayRef:
    """An array in the file: ``count`` elements of ``type``, in ``nbytes`` bytes at ``offset``.

    ``data`` holds the bytes of a small array of numbers, None for the others. A text of more than 1 MiB is
    kept like an array with one string.
    """

    type: ValueType
    count: int
    offset: int
    nbytes: int
    data: bytes | None = field(default=None, repr=False)


Scalar: TypeAlias = int | float | bool
Value: TypeAlias = Scalar | str | ArrayRef


def decode_numbers(kind: ValueType, data: bytes) -> list[int] | list[float] | list[bool]:
    """The elements of an array of numbers from its bytes."""
    layout = SCALARS[kind]
    numbers = unpack(f"<{len(data) // layout.size}{layout.format[1:]}", data)
    return [number != 0 for number in numbers] if kind is ValueType.BOOL else list(numbers)
