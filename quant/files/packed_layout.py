"""Where the matrices in LT formats lie: the packed section behind the tensors, and its directory.

docs/formats.md specifies both. Tables come first, then the inputs' transforms, then the matrices, each at a
multiple of 64 bytes; offsets count from the section's start, so they do not depend on the header's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from quant.files.layout import FileLayout, Key, Piece, PlacedTensor
from quant.formats.lt import LtFormat, LtTable
from quant.formats.lt_input import block_of, input_bytes
from quant.formats.lt_tables import TABLES
from runtime.gguf.metadata import PACKED_PREFIX
from runtime.gguf.packed import (
    PIECE_ALIGNMENT,
    SECTION_ALIGNMENT,
    VERSION,
    PackedInput,
    PackedSection,
    PackedTable,
    PackedTensor,
)
from runtime.gguf.tensors import pad
from runtime.gguf.values import ValueType

STATE_BITS: Final = 6
"""Of the tables that are written: what wider states gain in error they lose in speed (docs/formats.md)."""


@dataclass(frozen=True, slots=True)
class PackedEntry:
    """A matrix to write in an LT format; ``shape`` in ggml's order."""

    name: str
    format: LtFormat
    shape: tuple[int, ...]
    input: str
    """Matrices with the same name here have the same input, whose transform is stored once."""

    @property
    def table(self) -> LtTable:
        """The values of its states."""
        return TABLES[self.format.bits, STATE_BITS]

    @property
    def experts(self) -> int:
        return (*self.shape, 1)[2]

    @property
    def nbytes(self) -> int:
        """Of its strips: those of each expert begin with a strip of their own."""
        return self.experts * self.format.tensor_bytes(self.shape[1], self.shape[0])


@dataclass(frozen=True)
class PackedLayout:
    """The section of some matrices; positions count from its start. Empty, without keys, of none."""

    keys: tuple[Key, ...]
    tensors: tuple[PlacedTensor, ...]
    nbytes: int

    def behind(self, file: FileLayout) -> FileLayout:
        """``file``, whose header holds the keys already, with the section behind its tensors."""
        if not self.tensors:
            return file
        start = pad(file.size, SECTION_ALIGNMENT)
        moved = tuple(tensor.moved(start) for tensor in self.tensors)
        return FileLayout(file.header, (*file.tensors, *moved), start + self.nbytes)


@dataclass(frozen=True)
class _Places:
    """Offsets in the section: of each table, of each input by its name, of each matrix in its order."""

    tables: dict[LtTable, int]
    inputs: dict[str, int]
    matrices: list[int]
    end: int

    @classmethod
    def of(cls, entries: Sequence[PackedEntry]) -> _Places:
        end = 0

        def place(nbytes: int) -> int:
            nonlocal end
            offset, end = end, end + pad(nbytes, PIECE_ALIGNMENT)
            return offset

        tables = {table: place(len(table.values)) for table in dict.fromkeys(each.table for each in entries)}
        columns = {entry.input: entry.shape[0] for entry in entries}
        inputs = {name: place(input_bytes(count)) for name, count in columns.items()}
        matrices = [place(entry.nbytes) for entry in entries]
        return cls(tables, inputs, matrices, end)


def packed_section(entries: Sequence[PackedEntry], offset: int) -> PackedSection:
    """The section for ``entries`` as a reader will find it, from byte ``offset`` of the file on."""
    places = _Places.of(entries)
    columns = {entry.input: entry.shape[0] for entry in entries}
    inputs = {name: PackedInput(columns[name], at) for name, at in places.inputs.items()}
    tables = {table: PackedTable(table.state_bits, at) for table, at in places.tables.items()}
    tensors = tuple(
        PackedTensor(
            entry.name,
            entry.format.name,
            entry.table.state_bits,
            entry.shape,
            at,
            entry.nbytes,
            inputs[entry.input],
            tables[entry.table],
        )
        for entry, at in zip(entries, places.matrices, strict=True)
    )
    return PackedSection(offset, places.end, tensors, tuple(inputs.values()), tuple(tables.values()))


def lay_out_packed(entries: Sequence[PackedEntry]) -> PackedLayout:
    """The section for ``entries``, in their order. Pure."""
    if not entries:
        return PackedLayout((), (), 0)
    places = _Places.of(entries)
    columns = {entry.input: entry.shape[0] for entry in entries}
    tables, inputs, matrices, end = places.tables, places.inputs, places.matrices, places.end
    numbers_of_inputs = {name: number for number, name in enumerate(inputs)}
    numbers_of_tables = {table: number for number, table in enumerate(tables)}
    keys = (
        Key(f"{PACKED_PREFIX}version", ValueType.U32, VERSION),
        Key(f"{PACKED_PREFIX}bytes", ValueType.U64, end),
        _column("tensors.name", ValueType.STRING, [entry.name for entry in entries]),
        _column("tensors.format", ValueType.STRING, [entry.format.name for entry in entries]),
        _column("tensors.states", ValueType.U32, [entry.table.state_bits for entry in entries]),
        _column("tensors.rows", ValueType.U64, [entry.shape[1] for entry in entries]),
        _column("tensors.columns", ValueType.U64, [entry.shape[0] for entry in entries]),
        _column("tensors.experts", ValueType.U64, [entry.experts for entry in entries]),
        _column("tensors.offset", ValueType.U64, matrices),
        _column("tensors.size", ValueType.U64, [entry.nbytes for entry in entries]),
        _column("tensors.input", ValueType.U32, [numbers_of_inputs[entry.input] for entry in entries]),
        _column("tensors.table", ValueType.U32, [numbers_of_tables[entry.table] for entry in entries]),
        _column("inputs.columns", ValueType.U64, list(columns.values())),
        _column("inputs.block", ValueType.U32, [block_of(count) for count in columns.values()]),
        _column("inputs.offset", ValueType.U64, list(inputs.values())),
        _column("tables.states", ValueType.U32, [table.state_bits for table in tables]),
        _column("tables.offset", ValueType.U64, list(tables.values())),
    )
    tensors = (
        PlacedTensor(
            entry,
            matrix,
            beside=(
                Piece(inputs[entry.input], input_bytes(entry.shape[0])),
                Piece(tables[entry.table], len(entry.table.values)),
            ),
        )
        for entry, matrix in zip(entries, matrices, strict=True)
    )
    return PackedLayout(keys, tuple(tensors), end)


def _column(name: str, kind: ValueType, values: Sequence[str] | Sequence[int]) -> Key:
    return Key(f"{PACKED_PREFIX}{name}", kind, values, array=True)
