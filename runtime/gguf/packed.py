"""The packed section: matrices in localq's own formats, behind the tensors of an otherwise ordinary GGUF.

``docs/formats.md`` specifies it to the byte. Its directory is in the metadata, as arrays of one length; here
it is held against the file before anything else sees it. llama.cpp does not know the section, and refuses
such a file because tensors are missing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, TypeAlias

from runtime.errors import GgufError
from runtime.gguf import limits
from runtime.gguf.metadata import PACKED_PREFIX, RawMetadata
from runtime.gguf.source import Source
from runtime.gguf.tensors import pad

VERSION: Final = 1
SECTION_ALIGNMENT: Final = 4096
PIECE_ALIGNMENT: Final = 64
FORMATS: Final = {"lt1": 1, "lt2": 2, "lt3": 3, "lt4": 4}
"""Bits of a code by the format's name."""
STATES: Final = (4, 6, 8)
"""Bits of a state."""
STRIP_ROWS: Final = 64
MOST_COLUMNS: Final = 1 << 16
"""What an order of 16-bit numbers reaches."""
PACKED_RULES: Final = frozenset({"bad-packed", "packed-format", "packed-version"})
"""What a file of packed matrices is refused for, which llama.cpp would give worse reasons for."""
LOOKED_UP: Final = re.compile(r"(token_embd|per_layer_token_embd|position_embd|token_types)\.")
"""Tensors of which llama.cpp takes rows, which only ggml types give."""

_TENSOR_KEYS: Final = (
    *("name", "format", "states", "rows", "columns", "experts", "offset", "size"),
    *("input", "table"),
)
_INPUT_KEYS: Final = ("columns", "block", "offset")
_TABLE_KEYS: Final = ("states", "offset")


@dataclass(frozen=True, slots=True)
class PackedInput:
    """How a column is transformed, for all matrices that multiply it: ``columns`` signs and an order."""

    columns: int
    offset: int
    """Of the signs, from the section's start."""

    @property
    def block(self) -> int:
        """Values that are transformed together and share a scale."""
        return input_block(self.columns)

    @property
    def signs_bytes(self) -> int:
        return self.columns // 8

    @property
    def order_offset(self) -> int:
        return self.offset + pad(self.signs_bytes, PIECE_ALIGNMENT)

    @property
    def nbytes(self) -> int:
        """With the padding between signs and order, without that behind."""
        return self.order_offset - self.offset + 2 * self.columns


@dataclass(frozen=True, slots=True)
class PackedTable:
    """The values of 2^``states`` states, a signed byte each."""

    states: int
    offset: int

    @property
    def nbytes(self) -> int:
        return 1 << self.states


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """A matrix, or one for each expert. ``shape`` is in ggml's order: columns, rows, experts."""

    name: str
    format: str
    states: int
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    input: PackedInput
    table: PackedTable

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def bits(self) -> int:
        """Of a weight's code."""
        return FORMATS[self.format]

    @property
    def experts(self) -> int:
        return (*self.shape, 1)[2]


@dataclass(frozen=True, slots=True)
class PackedSection:
    """All of a file; offsets count from ``offset``, where the section starts in it."""

    offset: int
    nbytes: int
    tensors: tuple[PackedTensor, ...]
    inputs: tuple[PackedInput, ...]
    tables: tuple[PackedTable, ...]

    @property
    def shared_bytes(self) -> int:
        """Of inputs and tables."""
        return sum(entry.nbytes for entry in self.inputs) + sum(table.nbytes for table in self.tables)

    @property
    def formats(self) -> tuple[str, ...]:
        """Names of those that are used."""
        return tuple(sorted({tensor.format for tensor in self.tensors}))


def input_block(columns: int) -> int:
    """128 where that divides the columns, else 64."""
    return 128 if columns % 128 == 0 else 64


def matrix_bytes(bits: int, rows: int, columns: int) -> int:
    """Strips of 64 rows: their scales, and 8 rows' codes of a column in ``bits`` bytes."""
    return -(-rows // STRIP_ROWS) * (2 * STRIP_ROWS + 8 * bits * columns)


def read_packed(source: Source, raw: RawMetadata, end: int, names: Collection[str]) -> PackedSection | None:
    """The section of a file whose tensors, named ``names``, end at byte ``end``; None for a file without one.

    Raises :class:`GgufError` for a directory that contradicts itself or the file. The contents of inputs and
    tables are checked where they are read.
    """
    if not any(key.startswith(PACKED_PREFIX) for key in raw.values):
        return None
    version = raw.values.get(f"{PACKED_PREFIX}version")
    if version != VERSION:
        raise source.refuse(
            "packed-version",
            f"has packed matrices of version {version}; this localq reads {VERSION}: update it",
        )
    split = raw.values.get("split.count", 0)
    if isinstance(split, int) and split > 1:
        raise source.refuse("bad-packed", "is one of several parts; packed matrices come in one file")
    offset = pad(end, SECTION_ALIGNMENT)
    nbytes = raw.values.get(f"{PACKED_PREFIX}bytes")
    if not isinstance(nbytes, int) or isinstance(nbytes, bool) or nbytes < 1:
        raise source.refuse("bad-packed", f"its packed section has {nbytes!r} bytes")
    if source.size != offset + nbytes:
        raise source.refuse(
            "truncated" if source.size < offset + nbytes else "trailing-bytes",
            f"has {source.size} bytes; its packed section ends at {offset + nbytes}",
        )
    directory = _Directory(source, raw)
    inputs = tuple(_read_input(source, row) for row in directory.rows("inputs", _INPUT_KEYS))
    tables = tuple(_read_table(source, row) for row in directory.rows("tables", _TABLE_KEYS))
    rows = directory.rows("tensors", _TENSOR_KEYS)
    tensors = tuple(_read_tensor(source, inputs, tables, row) for row in rows)
    _check_names(source, tensors, names)
    _check_places(source, nbytes, (*tensors, *inputs, *tables))
    return PackedSection(offset, nbytes, tensors, inputs, tables)


Row: TypeAlias = dict[str, Any]


class _Directory:
    """The arrays of the metadata, as rows: texts or whole numbers by key."""

    def __init__(self, source: Source, raw: RawMetadata) -> None:
        self._source, self._arrays = source, raw.kept

    def rows(self, kind: str, keys: Sequence[str]) -> list[Row]:
        columns = []
        for key in keys:
            found = self._arrays.get(f"{PACKED_PREFIX}{kind}.{key}")
            text = key in ("name", "format")
            if found is None or any(type(value) is not (str if text else int) for value in found):
                raise self._source.refuse(
                    "bad-packed",
                    f"{PACKED_PREFIX}{kind}.{key} is no array of {'texts' if text else 'whole numbers'}",
                )
            columns.append(found)
        lengths = {len(column) for column in columns}
        if len(lengths) != 1:
            raise self._source.refuse(
                "bad-packed", f"the arrays {PACKED_PREFIX}{kind}.* have {sorted(lengths)} elements"
            )
        return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


def _read_input(source: Source, row: Row) -> PackedInput:
    columns, block = row["columns"], row["block"]
    if not 0 < columns <= MOST_COLUMNS or columns % 64 or block != input_block(columns):
        raise source.refuse("bad-packed", f"an input has {columns} columns in blocks of {block}")
    return PackedInput(columns, row["offset"])


def _read_table(source: Source, row: Row) -> PackedTable:
    if row["states"] not in STATES:
        raise source.refuse("bad-packed", f"a table is of states of {row['states']} bits; known are {STATES}")
    return PackedTable(row["states"], row["offset"])


def _read_tensor(
    source: Source, inputs: Sequence[PackedInput], tables: Sequence[PackedTable], row: Row
) -> PackedTensor:
    name, form, states, size = row["name"], row["format"], row["states"], row["size"]
    rows, columns, experts = row["rows"], row["columns"], row["experts"]

    def wrong(reason: str) -> GgufError:
        return source.refuse("bad-packed", f"the packed matrix {name!r} {reason}")

    if not (0 < len(name) <= limits.TENSOR_NAME_BYTES and name.isascii() and name.isprintable()):
        raise wrong("has no name that ggml could keep")
    if form not in FORMATS or states not in STATES:
        raise source.refuse(
            "packed-format",
            f"the packed matrix {name!r} is in the format {form!r} with states of {states} bits; this localq"
            f" knows {', '.join(FORMATS)} with {', '.join(map(str, STATES))}: update it",
        )
    input_ = inputs[row["input"]] if row["input"] < len(inputs) else None
    if input_ is None or input_.columns != columns:
        raise wrong(f"of {columns} columns has the input {row['input']}, which is not one of so many")
    table = tables[row["table"]] if row["table"] < len(tables) else None
    if table is None or table.states != states:
        raise wrong(f"with states of {states} bits has the table {row['table']}, which is not one of such")
    if not (0 < rows <= limits.VOCABULARY * 4 and 0 < experts <= limits.EXPERTS):
        raise wrong(f"has {rows} rows and {experts} experts")
    if size != experts * matrix_bytes(FORMATS[form], rows, columns):
        raise wrong(f"takes {size} bytes; {experts} x {rows} x {columns} in {form} take others")
    shape = (
        (columns, rows) if experts == 1 and not name.endswith("_exps.weight") else (columns, rows, experts)
    )
    return PackedTensor(name, form, states, shape, row["offset"], size, input_, table)


def _check_names(source: Source, tensors: Sequence[PackedTensor], names: Collection[str]) -> None:
    seen = set(names)
    for tensor in tensors:
        if tensor.name in seen:
            raise source.refuse("duplicate-tensor", f"has the tensor {tensor.name} twice")
        if LOOKED_UP.match(tensor.name):
            raise source.refuse("bad-packed", f"{tensor.name} is packed; rows are taken out of it")
        seen.add(tensor.name)


def _check_places(
    source: Source, nbytes: int, pieces: Sequence[PackedTensor | PackedInput | PackedTable]
) -> None:
    """Aligned, inside the section, and none over another."""
    end = 0
    for piece in sorted(pieces, key=lambda piece: piece.offset):
        if piece.offset % PIECE_ALIGNMENT or piece.offset < end or piece.offset + piece.nbytes > nbytes:
            raise source.refuse(
                "bad-packed",
                f"{piece.nbytes} bytes at byte {piece.offset} of the packed section of {nbytes} are not"
                f" aligned, outside, or over those before them, which end at {end}",
            )
        end = piece.offset + piece.nbytes
