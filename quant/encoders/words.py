"""Matrices in LT formats: the transform of each input, the factors of its rotated Hessian, and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quant.calibration.statistics import InputStatistics
from quant.encoders.output_energy import OutputEnergy
from quant.encoders.rotation import WordFactor, choose_input, word_factors
from quant.encoders.tensor import EncodedRows
from quant.encoders.trellis import decode_rows, encode
from quant.errors import CannotEncode
from quant.files.packed_layout import PackedEntry
from quant.formats.format import F32
from quant.formats.lt import LtFormat, LtTable
from quant.formats.lt_input import LtInput, pack_input


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


@dataclass
class WordCoders:
    """Makes coders, and keeps input and factors of one input for the matrices that share it."""

    seed: int
    threads: int
    _given: tuple[InputStatistics, LtInput] | None = None
    _factors: tuple[InputStatistics, int, int, tuple[WordFactor, ...]] | None = None

    def input_of(self, statistics: InputStatistics) -> LtInput:
        """The transform of this input. Raises :class:`CannotEncode` for one without a Hessian."""
        if self._given is None or self._given[0] is not statistics:
            self._given, self._factors = None, None
            self._given = statistics, choose_input(statistics, self.seed)
        return self._given[1]

    def coder(self, entry: PackedEntry, statistics: InputStatistics, expert: int) -> WordCoder:
        """For the rows of one expert. Raises :class:`CannotEncode` where its input was not seen."""
        if not statistics.tokens[expert]:
            raise CannotEncode(f"calibration gave no token to the expert {expert} of {entry.name}")
        given = self.input_of(statistics)
        wanted = (expert, entry.format.word_columns)
        known = self._factors
        if known is None or known[0] is not statistics or known[1:3] != wanted:
            self._factors = known = None  # before the next ones take memory
            made = tuple(word_factors(entry.format, statistics, given, expert=expert, threads=self.threads))
            self._factors = known = (statistics, *wanted, made)
        return WordCoder(entry.format, entry.table, given, known[3])

    def beside(self, entry: PackedEntry, statistics: InputStatistics) -> tuple[bytes, bytes]:
        """The bytes of the input's transform, and of the table."""
        return pack_input(self.input_of(statistics)).tobytes(), entry.table.bytes.tobytes()
