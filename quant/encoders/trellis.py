"""Words of a trellis with error feedback: rows of weights -> strips of an LT format, and back.

LDLQ (Chee et al. 2023) on blocks of a word's columns under the rotated Hessian, as QTIP (Tseng et al. 2024)
has it; then each row's scale is fitted again, where w H w^T of its error is least.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from quant.encoders.rotation import WordFactor
from quant.errors import CannotEncode
from quant.formats.format import F16, F32, U8
from quant.formats.lt import STRIP_ROWS, LtFormat, LtRows, LtTable, pack, unpack, values_of
from quant.formats.lt_input import LtInput, hadamard, restore
from runtime.kernels import tiles
from runtime.kernels.signatures import TrellisData
from runtime.kernels.tiles import FeedbackTiles, Start

STEP = 128
"""Columns whose targets are made together."""
CHUNK_ROWS = 256
"""Rows that are worked on together: coefficients are read once for all of them."""


@dataclass(frozen=True, slots=True)
class LtOptions:
    """How words are found."""

    spread: float = 1.0
    """The rows' scales, relative to those that are best for Gaussian weights without feedback."""
    refit: bool = True
    """Fit the rows' scales again when all words are known."""


def encode(
    fmt: LtFormat,
    table: LtTable,
    rows: F32,
    given: LtInput,
    factors: Sequence[WordFactor],
    *,
    options: LtOptions | None = None,
    threads: int = 1,
    isa: str | None = None,
) -> U8:
    """Strips [strips, strip bytes] of ``rows`` [rows, columns] (float32, contiguous).

    ``factors`` are those of the rows' input for ``fmt``. Deterministic for any ``threads`` and ``isa``, and
    strip by strip: rows that begin at a multiple of 64 get what they get within the whole. Raises
    :class:`CannotEncode` when shapes do not fit together, and for weights that are no numbers or too large.
    """
    options = options or LtOptions()
    count, columns = rows.shape
    covered = sum(len(factor.hessian) for factor in factors)
    if not fmt.fits(columns) or given.columns != columns or covered != columns:
        raise CannotEncode(
            f"{fmt.name}: rows have {columns} weights, the input {given.columns} and the Hessian {covered}"
            " columns; they must be equal, and a multiple of 64"
        )
    if rows.dtype != np.float32 or not rows.flags.c_contiguous:
        raise CannotEncode(f"weights are {rows.dtype}; words need contiguous rows of float32")
    parts = [rows[first : first + CHUNK_ROWS] for first in range(0, count, CHUNK_ROWS)]

    def part(some: F32) -> U8:
        return pack(fmt, _encode(fmt, table, some, given, factors, options, isa))

    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(part, parts)))


def decode(fmt: LtFormat, table: LtTable, data: U8, given: LtInput, rows: int) -> F32:
    """[rows, columns]: the weights that strips stand for, turned back to the input as the model has it."""
    return decode_rows(fmt, table, data, given, range(rows))


def decode_rows(fmt: LtFormat, table: LtTable, data: U8, given: LtInput, some: Sequence[int]) -> F32:
    """[some, columns]: as :func:`decode`, of some rows."""
    strips = sorted({row // STRIP_ROWS for row in some})
    rows = unpack(fmt, data[strips], table.state_bits)
    index = [strips.index(row // STRIP_ROWS) * STRIP_ROWS + row % STRIP_ROWS for row in some]
    return restore(given, values_of(LtRows(rows.states[index], rows.scale[index]), table))


def turned_tiles(rows: F32, given: LtInput) -> F32:
    """``rows`` [rows, columns] as the product takes them, in tiles [tiles, columns, 64]."""
    found = tiles.load(rows, np.arange(rows.shape[1], dtype=np.uint32))
    found[:, given.minus] *= np.float32(-1)
    hadamard(found, given.block)
    return found[:, given.order]


def _encode(
    fmt: LtFormat,
    table: LtTable,
    rows: F32,
    given: LtInput,
    factors: Sequence[WordFactor],
    options: LtOptions,
    isa: str | None,
) -> LtRows:
    weights = turned_tiles(rows, given)
    root = np.sqrt(np.square(weights, dtype=np.float64).mean(axis=1))  # [tiles, 64]
    with np.errstate(over="ignore"):
        scale = (root * (options.spread / table.deviation)).astype(np.float16)
    if not np.isfinite(scale).all():
        raise CannotEncode(
            f"{fmt.name}: a row has a root mean square of {root.max():g}, which no scale in fp16 can hold"
        )
    states = np.empty(weights.shape, np.uint8)
    along = across = np.zeros(scale.shape)
    for factor in factors:
        here = slice(factor.first, factor.first + len(factor.hessian))
        work = _round(fmt, table, np.ascontiguousarray(weights[:, here]), scale, factor, isa)
        states[:, here] = work.codes
        if options.refit:
            found = work.weights - work.errors
            energy = _times_hessian(found, factor, isa).astype(np.float64)
            along = along + (energy * work.weights).sum(axis=1)
            across = across + (energy * found).sum(axis=1)
    if options.refit:
        ratio = np.divide(along, across, out=np.ones_like(along), where=across > 0)
        scale = (scale * np.clip(ratio, 0.5, 2.0)).astype(np.float16)
    by_rows = states.transpose(0, 2, 1).reshape(scale.size, -1)
    return LtRows(np.ascontiguousarray(by_rows), scale.reshape(-1))


def _round(
    fmt: LtFormat, table: LtTable, weights: F32, scale: F16, factor: WordFactor, isa: str | None
) -> FeedbackTiles:
    columns = weights.shape[1]
    work = FeedbackTiles(
        weights=weights,
        scales=scale.astype(np.float32)[:, None],
        minima=None,
        group_of=np.zeros(columns, np.uint32),
        coefficients=factor.coefficients,
        isa=isa,
    )
    data = TrellisData(fmt.bits, table.state_bits, (ctypes.c_float * 256)(*table.values))
    for first in range(0, columns, STEP):
        last = min(first + STEP, columns)
        work.round_words(data, first, work.targets(first, last, (0, first)))
    return work


def _times_hessian(values: F32, factor: WordFactor, isa: str | None) -> F32:
    """[tiles, columns, 64] times the Hessian."""
    columns = values.shape[1]
    work = FeedbackTiles(
        weights=values,
        scales=np.empty((len(values), 1, STRIP_ROWS), np.float32),
        minima=None,
        group_of=np.zeros(columns, np.uint32),
        coefficients=factor.hessian,
        isa=isa,
        errors=values,
    )
    found = np.empty_like(values)
    for first in range(0, columns, STEP):
        last = min(first + STEP, columns)
        found[:, first:last] = work.targets(first, last, (0, columns), Start.ZERO)
    return found
