"""Error feedback: each column's rounding error moves the targets of the columns that come after it.

GPTQ (Frantar et al. 2022) in the form of LDLQ (Chee et al. 2023), on any grid of ggml's formats: the loss
that it lowers is that of :mod:`quant.encoders.hessian`.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from quant.encoders.hessian import Factor, Order, factors
from quant.errors import CannotEncode
from quant.formats.format import Blocks, Format
from runtime.kernels import tiles
from runtime.kernels.signatures import grid_data

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

CHUNK = 256
"""Rows that are worked on together: coefficients are read once for all of them."""
STEP = 128
"""Columns whose targets are made together."""


@dataclass(frozen=True, slots=True)
class FeedbackOptions:
    """How error feedback goes about it."""

    damping: float = 0.01
    """Added to the Hessian's diagonal, relative to its mean."""
    order: Order = "natural"


def grid(fmt: Format, blocks: Blocks, rows: int) -> tuple[F32, F32 | None]:
    """Effective scales and minima [rows, groups of a row]: a weight is scale * level - minimum."""
    scales = blocks.scale.astype(np.float32)[:, None]
    if blocks.scales is not None:
        scales = scales * blocks.scales.astype(np.float32)
    if blocks.minimum is None:
        return np.ascontiguousarray(scales.reshape(rows, -1)), None
    minima = blocks.minimum.astype(np.float32)[:, None]
    if blocks.minima is not None:
        minima = minima * blocks.minima.astype(np.float32)
    return np.ascontiguousarray(scales.reshape(rows, -1)), np.ascontiguousarray(minima.reshape(rows, -1))


def feedback(
    fmt: Format,
    weights: F32,
    statistics: InputStatistics,
    *,
    blocks: Blocks,
    options: FeedbackOptions | None = None,
    expert: int = 0,
    prepared: Iterable[Factor] | None = None,
    threads: int = 1,
    isa: str | None = None,
) -> Blocks:
    """Codes for ``weights`` [rows, columns] (float32, contiguous) on the grid of ``blocks``, by error
    feedback.

    ``blocks`` are those of the same matrix, rounded to nearest: their scales and minima are kept, their codes
    are not read. ``prepared`` are the factors of ``expert``'s Hessian in the options' order, if the caller
    has them from another matrix with the same input. Deterministic for any ``threads`` and ``isa``, and row
    by row: a part of the rows gets the codes that it gets within the whole. Raises :class:`CannotEncode`
    when the statistics do not fit.
    """
    options = options or FeedbackOptions()
    rows, columns = weights.shape
    if statistics.columns != columns or not fmt.fits(columns):
        raise CannotEncode(
            f"{fmt.name} by error feedback: a row has {columns} weights, a block {fmt.block}, the statistics"
            f" {statistics.columns} columns; rows must be whole blocks and as long as the statistics"
        )
    if weights.dtype != np.float32 or blocks.codes.shape != (rows * columns // fmt.block, fmt.block):
        raise CannotEncode(
            f"{fmt.name}: weights are {weights.dtype} {weights.shape}, codes {blocks.codes.shape};"
            f" give float32 rows and the blocks of the same matrix"
        )
    scales, minima = grid(fmt, blocks, rows)
    codes = np.empty((rows, columns), dtype=np.uint8)
    if prepared is None:
        prepared = factors(
            statistics,
            expert=expert,
            damping=options.damping,
            order=options.order,
            block=fmt.block,
            threads=threads,
            isa=isa,
        )
    levels = grid_data(fmt.levels)

    def encode(factor: Factor, first: int) -> None:
        some = slice(first, min(first + CHUNK, rows))
        here = slice(factor.first, factor.first + factor.order.size)
        groups = slice(here.start // fmt.group, -(-here.stop // fmt.group))
        every = np.arange(groups.stop - groups.start, dtype=np.uint32)
        chunk = tiles.FeedbackTiles(
            weights=tiles.load(weights[some, here], factor.order),
            scales=tiles.load(scales[some, groups], every),
            minima=None if minima is None else tiles.load(minima[some, groups], every),
            group_of=((factor.order + here.start) // fmt.group - groups.start).astype(np.uint32),
            coefficients=factor.coefficients,
            isa=isa,
        )
        for column in range(0, factor.order.size, STEP):
            last = min(column + STEP, factor.order.size)
            targets = chunk.targets(column, last, (0, column))
            chunk.round(levels, column, targets)
        tiles.store(chunk.codes, factor.order, codes[some, here])

    with ThreadPoolExecutor(threads) as pool:
        for factor in prepared:
            for done in [pool.submit(encode, factor, first) for first in range(0, rows, CHUNK)]:
                done.result()
    return replace(blocks, codes=codes.reshape(-1, fmt.block))
