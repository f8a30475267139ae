"""LT1 to LT4: 1 to 4 bits a weight and a scale a row; a weight is the value of a state of a small trellis.

A word is a ring of steps, ``bits`` bits a step. The state of a step is its bits and those that follow,
``state_bits`` in all, so neighbours share bits: more levels than 2^bits, from fewer bits. docs/formats.md has
the bytes. Trellis-coded quantization (Marcellin and Fischer 1990) with the bit-shift trellis of QTIP (Tseng
et al. 2024), and states so few that a table of their values fits into registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quant.formats.format import F16, F32, I8, U8

U64 = NDArray[np.uint64]
Index = NDArray[np.intp]

STRIP_ROWS: Final = 64
"""Rows that lie together. The last strip of a matrix has rows of scale 0 behind its own."""
LINE_WORDS: Final = 8
"""A line of codes has so many words of 64 bits."""
UNIT: Final = 64
"""The length of a row must be a multiple."""
STATE_BITS: Final = (4, 6, 8)


@dataclass(frozen=True)
class LtFormat:
    """How words of ``bits`` bits a weight lie in a matrix."""

    bits: int
    """Bits of a step: 1, 2, 3 or 4."""
    steps: int
    """Weights of a word."""
    word_rows: int
    word_columns: int

    @property
    def name(self) -> str:
        """As a person types it: ``"lt2"``."""
        return f"lt{self.bits}"

    @cached_property
    def row(self) -> Index:
        """[steps]: the row of a step within its word."""
        byte, inner = np.divmod(np.arange(self.steps), self.steps // 8)
        found: Index = 2 * (inner % 4) + byte // 4
        return found

    @cached_property
    def column(self) -> Index:
        """[steps]: the column of a step within its word."""
        byte, inner = np.divmod(np.arange(self.steps), self.steps // 8)
        found: Index = 4 * (inner // 4) + byte % 4
        return found

    def fits(self, columns: int) -> bool:
        """Whether rows of ``columns`` weights can be stored."""
        return columns > 0 and columns % UNIT == 0

    def strip_bytes(self, columns: int) -> int:
        """Bytes of 64 rows of ``columns`` weights."""
        return 2 * STRIP_ROWS + STRIP_ROWS * columns * self.bits // 8

    def tensor_bytes(self, rows: int, columns: int) -> int:
        """Bytes of a matrix."""
        return -(-rows // STRIP_ROWS) * self.strip_bytes(columns)

    def bits_per_weight(self, columns: int) -> float:
        """Bits of storage for one weight of a row of ``columns``, its scale included."""
        return self.bits + 16 / columns


LT1: Final = LtFormat(bits=1, steps=64, word_rows=8, word_columns=8)
LT2: Final = LtFormat(bits=2, steps=32, word_rows=8, word_columns=4)
LT3: Final = LtFormat(bits=3, steps=32, word_rows=8, word_columns=4)
LT4: Final = LtFormat(bits=4, steps=16, word_rows=4, word_columns=4)
LT_FORMATS: Final[Mapping[str, LtFormat]] = MappingProxyType({fmt.name: fmt for fmt in (LT1, LT2, LT3, LT4)})
"""``"lt2"`` -> LT2."""


@dataclass(frozen=True, slots=True)
class LtTable:
    """The values of states, and the spread of weights that they are made for."""

    values: tuple[int, ...]
    """2^state_bits of them, -127 to 127; of 4 bits, -64 to 64."""
    deviation: float
    """Standard deviation of Gaussian weights, in units of the values, at which their error is least."""

    @property
    def state_bits(self) -> int:
        """Bits of a state."""
        return len(self.values).bit_length() - 1

    @property
    def bytes(self) -> I8:
        """[2^state_bits]"""
        return np.array(self.values, dtype=np.int8)


@dataclass(frozen=True, slots=True)
class LtRows:
    """Rows of whole strips, unpacked."""

    states: U8
    """[rows, columns], rows a multiple of 64."""
    scale: F16
    """[rows]"""


def pack(fmt: LtFormat, rows: LtRows) -> U8:
    """-> uint8 [strips, strip bytes]. Of a state the lowest ``fmt.bits`` count: neighbours have the rest."""
    strips = len(rows.states) // STRIP_ROWS
    symbols = in_words(fmt, rows.states & np.uint8((1 << fmt.bits) - 1))
    scale = rows.scale.astype("<f2", copy=False).reshape(strips, STRIP_ROWS).view(np.uint8)
    lines = _fold(fmt, symbols.astype(np.uint64)).astype("<u8", copy=False).reshape(strips, -1)
    return np.concatenate((scale, lines.view(np.uint8)), axis=1)


def unpack(fmt: LtFormat, data: U8, state_bits: int) -> LtRows:
    """uint8 [strips, strip bytes] ->; the inverse of :func:`pack` for every byte string."""
    scale = np.ascontiguousarray(data[:, : 2 * STRIP_ROWS]).view("<f2").astype(np.float16, copy=False)
    lines = np.ascontiguousarray(data[:, 2 * STRIP_ROWS :]).view("<u8").astype(np.uint64, copy=False)
    symbols = _unfold(fmt, lines.reshape(len(data), -1, LINE_WORDS)).astype(np.uint8)
    return LtRows(in_rows(fmt, states_of(symbols, fmt.bits, state_bits)), scale.reshape(-1))


def values_of(rows: LtRows, table: LtTable) -> F32:
    """[rows, columns]: what the rows stand for, f32(scale) * value, rounded once."""
    values = table.bytes.astype(np.float32)[rows.states]
    with np.errstate(invalid="ignore"):  # infinity times 0, of a damaged file
        return rows.scale.astype(np.float32)[:, None] * values


def states_of(symbols: U8, bits: int, state_bits: int) -> U8:
    """[..., steps], ``bits`` bits each -> the states of the ring: a step's symbol is its lowest bits."""
    states = np.zeros_like(symbols)
    for ahead in range(-(-state_bits // bits)):
        states |= np.roll(symbols, -ahead, axis=-1) << np.uint8(ahead * bits)
    return states & np.uint8((1 << state_bits) - 1)


def in_words(fmt: LtFormat, values: U8) -> U8:
    """[rows, columns] -> [strips, columns / word columns, 64 / word rows, steps]"""
    rows, columns = values.shape
    tiled = values.reshape(
        rows // STRIP_ROWS, -1, fmt.word_rows, columns // fmt.word_columns, fmt.word_columns
    ).transpose(0, 3, 1, 2, 4)
    return tiled[..., fmt.row, fmt.column]


def in_rows(fmt: LtFormat, words: U8) -> U8:
    """The inverse of :func:`in_words`."""
    strips, groups, count, _ = words.shape
    tiled = np.empty((strips, groups, count, fmt.word_rows, fmt.word_columns), words.dtype)
    tiled[..., fmt.row, fmt.column] = words
    return tiled.transpose(0, 2, 3, 1, 4).reshape(strips * STRIP_ROWS, groups * fmt.word_columns)


def _fold(fmt: LtFormat, symbols: U64) -> U64:
    """[strips, groups, words, steps] -> [strips, lines, 8]"""
    strips, groups = symbols.shape[:2]
    if fmt.bits == 3:
        low, high = _join(symbols & np.uint64(1), 1), _join(symbols >> np.uint64(1), 2)
        pairs = high.reshape(strips, groups // 2, 2, LINE_WORDS)
        halves = low.reshape(strips, groups // 2, 2, LINE_WORDS)
        lowest = halves[:, :, :1] | halves[:, :, 1:] << np.uint64(32)
        return np.concatenate((pairs, lowest), axis=2).reshape(strips, -1, LINE_WORDS)
    words = _join(symbols, fmt.bits).reshape(strips, groups, LINE_WORDS, -1)
    return words.swapaxes(2, 3).reshape(strips, -1, LINE_WORDS)


def _unfold(fmt: LtFormat, lines: U64) -> U64:
    """[strips, lines, 8] -> [strips, groups, words, steps]"""
    strips = len(lines)
    if fmt.bits == 3:
        lines = lines.reshape(strips, -1, 3, LINE_WORDS)
        low = np.stack((lines[:, :, 2] & np.uint64(0xFFFFFFFF), lines[:, :, 2] >> np.uint64(32)), axis=2)
        symbols = _split(low, 1, fmt.steps) | _split(lines[:, :, :2], 2, fmt.steps) << np.uint64(1)
        return symbols.reshape(strips, -1, LINE_WORDS, fmt.steps)
    in_group = STRIP_ROWS // fmt.word_rows // LINE_WORDS
    words = lines.reshape(strips, -1, in_group, LINE_WORDS).swapaxes(2, 3)
    return _split(words.reshape(strips, -1, in_group * LINE_WORDS), fmt.bits, fmt.steps)


def _join(symbols: U64, bits: int) -> U64:
    """[..., steps] -> [...]: ``bits`` bits of each, the first lowest."""
    joined: U64 = np.bitwise_or.reduce(symbols << _shifts(bits, symbols.shape[-1]), axis=-1)
    return joined


def _split(words: U64, bits: int, steps: int) -> U64:
    """The inverse of :func:`_join`."""
    return words[..., None] >> _shifts(bits, steps) & np.uint64((1 << bits) - 1)


def _shifts(bits: int, steps: int) -> U64:
    return np.arange(steps, dtype=np.uint64) * np.uint64(bits)
