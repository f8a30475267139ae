"""Matrices in LT formats: the transform of each input, the factors of its rotated Hessian, and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from quant.calibration.statistics import InputStatistics
from quant.encoders.output_energy import F64, OutputEnergy
from quant.encoders.rotation import WordFactor, choose_input, word_factors
from quant.encoders.tensor import EncodedRows
from quant.encoders.trellis import decode_rows, encode
from quant.errors import CannotEncode
from quant.files.packed_layout import PackedEntry
from quant.formats.format import F32
from quant.formats.lt import LtFormat, LtTable
from quant.formats.lt_input import LtInput, pack_input, transform

PEAK: Final = 8.0
"""Mean square of the largest of 128 Gaussian values, which transformed inputs nearly are, over theirs."""


@dataclass(frozen=True)
class WordCoder:
    """Rows of one expert's matrix in words: a :class:`quant.encoders.tensor.Coder`."""

    fmt: LtFormat
    table: LtTable
    given: LtInput
    factors: tuple[WordFactor, ...]

    feeds_back = True

    def __call__(self, rows: F32, energy: OutputEnergy, measured: Sequence[int], /) -> EncodedRows:
        data = encode(self.fmt, self.table, rows, self.given, self.factors)
        some = list(measured)
        original = rows[some]
        found = decode_rows(self.fmt, self.table, data, self.given, some)
        return EncodedRows(data, energy(original - found), energy(original))

    def of_rounded_inputs(self, rows: F32) -> F64:
        """[rows]: what it adds to the energy of an output that transformed inputs are rounded to bytes, as
        :func:`quant.encoders.output_energy.of_rounded_inputs`."""
        squares = np.square(transform(self.given, rows), dtype=np.float64)
        total = np.zeros(len(rows))
        for factor in self.factors:
            diagonal = np.diagonal(factor.hessian).astype(np.float64)
            energies = diagonal.reshape(-1, self.given.block).mean(axis=1)
            here = squares[:, factor.first : factor.first + diagonal.size]
            total += (here.reshape(len(rows), -1, self.given.block).sum(axis=2) * energies).sum(axis=1)
        found: F64 = total * (PEAK / (127**2 * 12))
        return found


@dataclass
class WordCoders:
    """Makes coders, and keeps input and factors of one input for the matrices that share it."""

    seed: int
    threads: int
    _given: tuple[InputStatistics, LtInput] | None = None
    _factors: dict[int, tuple[WordFactor, ...]] = field(default_factory=dict)
    """By the columns of a word; all of one input and expert."""
    _expert: int = 0

    def input_of(self, statistics: InputStatistics) -> LtInput:
        """The transform of this input. Raises :class:`CannotEncode` for one without a Hessian."""
        if self._given is None or self._given[0] is not statistics:
            self._given, self._factors = None, {}
            self._given = statistics, choose_input(statistics, self.seed)
        return self._given[1]

    def coder(self, entry: PackedEntry, statistics: InputStatistics, expert: int) -> WordCoder:
        """For the rows of one expert. Raises :class:`CannotEncode` where its input was not seen."""
        if not statistics.tokens[expert]:
            raise CannotEncode(f"calibration gave no token to the expert {expert} of {entry.name}")
        given = self.input_of(statistics)
        if expert != self._expert:
            self._expert, self._factors = expert, {}  # before the next ones take memory
        columns = entry.format.word_columns
        if columns not in self._factors:
            made = word_factors(entry.format, statistics, given, expert=expert, threads=self.threads)
            self._factors[columns] = tuple(made)
        return WordCoder(entry.format, entry.table, given, self._factors[columns])

    def beside(self, entry: PackedEntry, statistics: InputStatistics) -> tuple[bytes, bytes]:
        """The bytes of the input's transform, and of the table."""
        return pack_input(self.input_of(statistics)).tobytes(), entry.table.bytes.tobytes()
