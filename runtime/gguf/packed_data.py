"""What a packed section holds beside the codes: inputs and tables, read and checked, for native code to use.

They are copied, not mapped: what was checked cannot change afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.errors import GgufError
from runtime.gguf.header import GgufHeader, file_identity
from runtime.gguf.packed import PackedInput, PackedSection, PackedTable
from runtime.gguf.source import Source, open_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_OF_16 = 64
"""The largest value, either sign, of a table of 16: AVX2 adds products of two in 16 bits."""


@dataclass(frozen=True, slots=True)
class PackedData:
    """By the directory's entry: signs (uint8 [columns / 8]) and order (uint16 [columns]); values (int8)."""

    inputs: dict[PackedInput, tuple[NDArray[np.uint8], NDArray[np.uint16]]]
    tables: dict[PackedTable, NDArray[np.int8]]

    @property
    def nbytes(self) -> int:
        arrays = [array for pair in self.inputs.values() for array in pair]
        return sum(array.nbytes for array in (*arrays, *self.tables.values()))


def read_packed_data(header: GgufHeader, section: PackedSection) -> PackedData:
    """Raises :class:`GgufError` for an order that is none, values out of their range, or a file that is no
    longer the one that was validated."""
    with open_source(header.path) as source:
        if file_identity(source.fd) != header.identity:
            raise GgufError(header.path, "changed", "the file was changed after it was opened; open it again")
        return PackedData(
            {entry: _read_input(source, section, entry) for entry in section.inputs},
            {entry: _read_table(source, section, entry) for entry in section.tables},
        )


def _read_input(
    source: Source, section: PackedSection, entry: PackedInput
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    import numpy as np

    source.seek(section.offset + entry.offset)
    signs = np.frombuffer(source.take(entry.signs_bytes, "an input's signs"), np.uint8)
    source.seek(section.offset + entry.order_offset)
    order = np.frombuffer(source.take(2 * entry.columns, "an input's order"), "<u2").astype(np.uint16)
    if not np.array_equal(np.sort(order), np.arange(entry.columns)):
        raise source.refuse(
            "bad-packed",
            f"the order at byte {entry.offset} does not name each of {entry.columns} columns once",
        )
    return signs, order


def _read_table(source: Source, section: PackedSection, entry: PackedTable) -> NDArray[np.int8]:
    import numpy as np

    source.seek(section.offset + entry.offset)
    table = np.frombuffer(source.take(entry.nbytes, "a table"), np.int8)
    most = MOST_OF_16 if entry.states == 4 else 127
    if np.abs(table.astype(np.int16)).max() > most:
        raise source.refuse(
            "bad-packed",
            f"the table at byte {entry.offset} has a value beyond {most}, of {entry.nbytes} states",
        )
    return table
