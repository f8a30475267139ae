"""Where everything lies in the GGUF to write: a header of known length, then the tensors in their order.

The key-values of the source are taken over byte for byte, so nothing that a person or a converter put there
is lost or rewritten. Ours follow them. A :class:`Key` holds values of fixed size, or texts whose length does
not change, so the header can be written again in place when the figures are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from struct import Struct
from typing import Final, NamedTuple, Protocol

from runtime.gguf import ArrayRef, GgufHeader
from runtime.gguf.source import Source, open_source
from runtime.gguf.tensors import pad
from runtime.gguf.values import SCALARS, ValueType

VERSION: Final = 3
REPLACED: Final = ("general.file_type", "general.quantization_version")
"""Keys of the source that a new quantization answers itself."""
DROPPED_PREFIXES: Final = ("split.", "localq.")
"""The new file is one part, and has a certificate of its own."""

_START: Final = Struct("<4sIQQ")
_U32: Final = Struct("<I")
_U64: Final = Struct("<Q")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of ours: ``type`` is the value's, or with ``array`` that of its elements."""

    name: str
    type: ValueType
    value: int | float | str | Sequence[int] | Sequence[float] | Sequence[str]
    array: bool = False


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor of the file to write; ``shape`` in ggml's order."""

    name: str
    type: int
    shape: tuple[int, ...]
    nbytes: int


class Entry(Protocol):
    """What a file has to have room for."""

    @property
    def name(self) -> str: ...
    @property
    def nbytes(self) -> int: ...


class Piece(NamedTuple):
    """Some bytes of a file."""

    position: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class PlacedTensor:
    """Where a tensor lies."""

    entry: Entry
    position: int
    """Of its first byte, from the start of the file."""
    beside: tuple[Piece, ...] = ()
    """What it cannot be read without, and others may share: a packed matrix' input and table."""

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Its own bytes first."""
        return Piece(self.position, self.entry.nbytes), *self.beside

    def moved(self, count: int) -> PlacedTensor:
        """The same, ``count`` bytes further on."""
        beside = tuple(Piece(position + count, nbytes) for position, nbytes in self.beside)
        return replace(self, position=self.position + count, beside=beside)


@dataclass(frozen=True)
class FileLayout:
    """A file before its tensors: the same plan gives the same bytes."""

    header: bytes
    """Up to the first tensor, padding included."""
    tensors: tuple[PlacedTensor, ...]
    size: int
    """Of the whole file, padded to the alignment, or to that of packed matrices."""


def lay_out(
    inherited: Sequence[bytes], keys: Sequence[Key], tensors: Sequence[TensorEntry], alignment: int
) -> FileLayout:
    """The layout of a file with the pairs ``inherited``, then ``keys``, then ``tensors``. Pure."""
    parts = [_START.pack(b"GGUF", VERSION, len(tensors), len(inherited) + len(keys)), *inherited]
    parts += [encode_key(key) for key in keys]
    offset = 0
    offsets = []
    for tensor in tensors:
        parts += [
            _text(tensor.name.encode()),
            _U32.pack(len(tensor.shape)),
            *(_U64.pack(dimension) for dimension in tensor.shape),
            _U32.pack(tensor.type),
            _U64.pack(offset),
        ]
        offsets.append(offset)
        offset += pad(tensor.nbytes, alignment)
    header = b"".join(parts)
    header += bytes(pad(len(header), alignment) - len(header))
    placed = (PlacedTensor(tensor, len(header) + at) for tensor, at in zip(tensors, offsets, strict=True))
    return FileLayout(header, tuple(placed), len(header) + offset)


def encode_key(key: Key) -> bytes:
    """One pair as it stands in a GGUF."""
    head = _text(key.name.encode())
    if not key.array:
        return head + _U32.pack(key.type) + _encode_value(key.type, key.value)
    values = key.value
    if isinstance(values, int | float | str):
        raise TypeError(f"{key.name} is an array; {type(values).__name__} is no sequence of values")
    elements = b"".join(_encode_value(key.type, value) for value in values)
    return head + _U32.pack(ValueType.ARRAY) + _U32.pack(key.type) + _U64.pack(len(values)) + elements


def _encode_value(kind: ValueType, value: object) -> bytes:
    if kind is ValueType.STRING:
        if not isinstance(value, str):
            raise TypeError(f"a text is needed, not {type(value).__name__}")
        return _text(value.encode())
    return SCALARS[kind].pack(value)


def _text(data: bytes) -> bytes:
    return _U64.pack(len(data)) + data


def inherited_pairs(header: GgufHeader) -> list[bytes]:
    """The pairs of a validated source that its quantization keeps, as their bytes.

    Raises :class:`runtime.errors.GgufError` if the file is not the one that was validated.
    """
    with open_source(header.path) as source:
        source.skip(_START.size, "the magic and the counts")
        bounds = [source.position]
        for name in header.metadata:
            _skip_pair(source, header, name)
            bounds.append(source.position)
        source.seek(0)
        data = source.take(bounds[-1], "the key-values")
    return [
        data[start:stop]
        for name, (start, stop) in zip(header.metadata, pairwise(bounds), strict=True)
        if name not in REPLACED and not name.startswith(DROPPED_PREFIXES)
    ]


def _skip_pair(source: Source, header: GgufHeader, name: str) -> None:
    """Moves behind the pair at the position, which is ``name``'s unless the file was changed."""
    length = source.u64("a key's length")
    found = source.take(min(length, len(name)), "a key")
    kind = int.from_bytes(source.take(4, "a value's type"), "little")
    if length != len(name) or found != name.encode() or kind not in ValueType._value2member_map_:
        raise source.refuse("changed", "was changed while it was read; try again when it is complete")
    value = header.metadata[name]
    if isinstance(value, ArrayRef):
        # of an array, ``offset`` is that of its elements; of a long text, that of its length
        source.seek(value.offset + value.nbytes)
    elif isinstance(value, str):
        source.skip(source.u64(f"the length of {name}"), name)
    else:
        source.skip(SCALARS[ValueType(kind)].size, name)
