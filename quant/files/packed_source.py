"""Matrices in LT formats as a source: their weights as float32 rows, for the input as the model has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.formats.format import F32
from quant.formats.lt import LT_FORMATS, STRIP_ROWS, LtRows, LtTable, unpack, values_of
from quant.formats.lt_input import LtInput, restore
from runtime.gguf.header import GgufHeader
from runtime.gguf.packed import PackedSection, PackedTensor
from runtime.gguf.packed_data import read_packed_data

READ_ROWS = 256
"""Rows that are unpacked together."""


@dataclass(frozen=True)
class PackedRows:
    """Reads rows of packed matrices; any number of threads may do so at once."""

    inputs: dict[int, LtInput]
    """By offset in the section."""
    tables: dict[int, LtTable]

    @classmethod
    def of(cls, header: GgufHeader, section: PackedSection) -> PackedRows:
        """Raises :class:`runtime.errors.GgufError` for inputs and tables that are none."""
        data = read_packed_data(header, section)
        inputs = {
            entry.offset: LtInput(
                entry.block,
                np.unpackbits(signs, count=entry.columns, bitorder="little").astype(np.bool_),
                order,
            )
            for entry, (signs, order) in data.inputs.items()
        }
        tables = {
            entry.offset: LtTable(tuple(values.tolist()), deviation=0.0)
            for entry, values in data.tables.items()
        }
        return cls(inputs, tables)

    def rows(self, tensor: PackedTensor, start: int, stop: int, read: Callable[[int, int], bytes]) -> F32:
        """Rows ``start`` to ``stop`` of all experts' together, float32 [stop - start, columns].

        ``read`` gives bytes of the matrix: (first, count).
        """
        columns, rows = tensor.shape[:2]
        found = np.empty((stop - start, columns), np.float32)
        row = start
        while row < stop:
            expert, first = divmod(row, rows)
            last = min(first - first % STRIP_ROWS + READ_ROWS, rows, stop - expert * rows)
            found[row - start : row - start + last - first] = self._part(tensor, expert, first, last, read)
            row += last - first
        return found

    def _part(
        self, tensor: PackedTensor, expert: int, first: int, last: int, read: Callable[[int, int], bytes]
    ) -> F32:
        fmt = LT_FORMATS[tensor.format]
        columns, rows = tensor.shape[:2]
        size = fmt.strip_bytes(columns)
        strips = range(first // STRIP_ROWS, -(-last // STRIP_ROWS))
        raw = read((expert * -(-rows // STRIP_ROWS) + strips.start) * size, len(strips) * size)
        data: NDArray[np.uint8] = np.frombuffer(raw, np.uint8).reshape(len(strips), size)
        unpacked = unpack(fmt, data, tensor.states)
        some = slice(first - strips.start * STRIP_ROWS, last - strips.start * STRIP_ROWS)
        wanted = LtRows(unpacked.states[some], unpacked.scale[some])
        return restore(self.inputs[tensor.input.offset], values_of(wanted, self.tables[tensor.table.offset]))
