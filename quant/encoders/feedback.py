"""Error feedback: each column's rounding error moves the targets of the columns that come after it.

GPTQ (Frantar et al. 2022) in the form of LDLQ (Chee et al. 2023), on the grids of any block format of ggml.
The loss that it lowers is that of :mod:`quant.encoders.hessian`. When feedback reaches a block, its scales
are fitted to its targets, not to its weights; afterwards :mod:`quant.encoders.refine` goes over codes and
scales again.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from quant.calibration.statistics import InputStatistics
from quant.encoders.grids import Grids, format_data
from quant.encoders.hessian import Factor, Order, factors, hessian_of
from quant.encoders.nearest import nearest
from quant.encoders.refine import refine
from quant.errors import CannotEncode
from quant.formats.format import F32, Blocks, Format
from runtime.kernels import tiles
from runtime.kernels.tiles import FeedbackTiles

STEP = 128
"""Columns whose targets are made together, where scales are not fitted."""
CHUNK_ROWS = 256
"""Rows that are worked on together at least: coefficients are read once for all of them."""
FITTED_WEIGHTS = 1 << 16
"""Weights whose scales are fitted together: of short blocks, more rows at once."""
CHUNK_WEIGHTS = 1 << 22
"""Weights that are worked on together at most, if that is more than ``CHUNK_ROWS``: a chunk takes 17 bytes
each."""


@dataclass(frozen=True, slots=True)
class FeedbackOptions:
    """How error feedback goes about it."""

    damping: float = 0.01
    """Added to the Hessian's diagonal, relative to its mean. Ten times as much lowers the loss on other texts
    and yet gives more divergence: few tokens of huge inputs make up most of some means."""
    order: Order = "importance"
    refit: bool = False
    """Fit the scales of a block when feedback reaches it; not in order "importance", which mixes the
    blocks. It has the least loss, but not the least divergence: SmolLM2-135M in Q4_0 0.121 with it, 0.095
    without. The scales follow what a few tokens of huge inputs make of the Hessian."""
    sweeps: int = 2
    """How often codes and scales are refined afterwards."""


def feedback(
    fmt: Format,
    weights: F32,
    statistics: InputStatistics,
    *,
    blocks: Blocks | None = None,
    options: FeedbackOptions | None = None,
    expert: int = 0,
    prepared: Iterable[Factor] | None = None,
    threads: int = 1,
    isa: str | None = None,
) -> Blocks:
    """Blocks for ``weights`` [rows, columns] (float32, contiguous), by error feedback.

    Without ``options.refit`` feedback runs on the grids of ``blocks``, or of :func:`nearest` when there are
    none; their codes are not read. ``prepared`` are the factors of ``expert``'s Hessian in the options'
    order, if the caller has them from another matrix with the same input. Deterministic for any ``threads``
    and ``isa``, and row by row: a part of the rows gets what it gets within the whole. Raises
    :class:`CannotEncode` when format, weights and statistics do not fit together.
    """
    options = options or FeedbackOptions()
    rows, columns = weights.shape
    _check(fmt, weights, statistics, options)
    if options.refit:
        grids = Grids.zeros(fmt, rows, columns)
    else:
        blocks = blocks or nearest(fmt, weights, statistics.mean_square[expert], isa=isa)
        grids = Grids.of(blocks, rows)
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
    codes = np.empty((rows, columns), dtype=np.uint8)
    chunk_rows = CHUNK_ROWS
    if options.refit:
        chunk_rows = max(CHUNK_ROWS, min(FITTED_WEIGHTS // fmt.block, CHUNK_WEIGHTS // columns // 64 * 64))

    def encode(some: slice, factor: Factor, hessian: F32) -> None:
        here = slice(factor.first, factor.first + factor.order.size)
        ours, grid = weights[some, here], grids.part(fmt, some, here)
        chunk, order = _round(fmt, ours, grid, factor, options.refit, isa), factor.order
        if options.sweeps:
            chunk = refine(fmt, ours, chunk, grid, factor, hessian, options.sweeps)
            order = np.arange(order.size, dtype=np.uint32)
        tiles.store(chunk.codes, order, codes[some, here])

    with ThreadPoolExecutor(threads) as pool:
        for factor in prepared:
            hessian = hessian_of(factor, statistics, expert)
            parts = [slice(first, min(first + chunk_rows, rows)) for first in range(0, rows, chunk_rows)]
            for done in [pool.submit(encode, part, factor, hessian) for part in parts]:
                done.result()
    return grids.blocks(codes.reshape(-1, fmt.block))


def _check(fmt: Format, weights: F32, statistics: InputStatistics, options: FeedbackOptions) -> None:
    columns = weights.shape[1]
    if statistics.columns != columns or not fmt.fits(columns):
        raise CannotEncode(
            f"{fmt.name} by error feedback: a row has {columns} weights, a block {fmt.block}, the statistics"
            f" {statistics.columns} columns; rows must be whole blocks and as long as the statistics"
        )
    if statistics.block is not None and statistics.block % fmt.block:
        raise CannotEncode(
            f"{fmt.name} by error feedback: a block of the Hessian has {statistics.block} columns, one of the"
            f" format {fmt.block}; the first must be a multiple of the second"
        )
    if weights.dtype != np.float32 or not weights.flags.c_contiguous:
        raise CannotEncode(f"weights are {weights.dtype}; error feedback needs contiguous rows of float32")
    if options.refit and options.order == "importance":
        raise CannotEncode(
            "order 'importance' mixes blocks: no scale can be fitted; use 'blocks', or no refit"
        )


def _round(
    fmt: Format, weights: F32, grids: Grids, factor: Factor, refit: bool, isa: str | None
) -> FeedbackTiles:
    """The tiles of some rows, columns in the factor's order, rounded; ``refit`` sets ``grids``."""
    order = factor.order
    scales, minima = grids.effective(fmt)
    groups = np.arange(scales.shape[1], dtype=np.uint32)
    chunk = FeedbackTiles(
        weights=tiles.load(weights, order),
        scales=tiles.load(scales, groups),
        minima=None if minima is None else tiles.load(minima, groups),
        group_of=order // np.uint32(fmt.group),
        coefficients=factor.coefficients,
        isa=isa,
    )
    data = format_data(fmt)
    step = fmt.block if refit else STEP
    for first in range(0, order.size, step):
        last = min(first + step, order.size)
        targets = chunk.targets(first, last, (0, first))
        if refit:
            _fit(fmt, grids, chunk, factor, first, targets, len(weights), isa)
        chunk.round(data, first, targets)
    return chunk


def _fit(
    fmt: Format,
    grids: Grids,
    chunk: FeedbackTiles,
    factor: Factor,
    first: int,
    targets: F32,
    rows: int,
    isa: str | None,
) -> None:
    """Fits the scales of the block whose columns are ``first`` and on in the factor's order to its
    targets."""
    columns = factor.order[first : first + fmt.block]
    start = int(columns.min())
    within = columns - np.uint32(start)
    wanted = np.empty((rows, fmt.block), dtype=np.float32)
    tiles.store(targets, within, wanted)
    importance = np.empty(fmt.block, dtype=np.float32)
    importance[within] = factor.pivots[first : first + fmt.block]
    part = grids.part(fmt, slice(None), slice(start, start + fmt.block))
    part.set(Grids.of(nearest(fmt, wanted, importance, isa=isa), rows))
    scales, minima = part.effective(fmt)
    groups = np.arange(fmt.groups, dtype=np.uint32)
    here = slice(start // fmt.group, start // fmt.group + fmt.groups)
    chunk.scales[:, here] = tiles.load(scales, groups)
    if minima is not None and chunk.minima is not None:
        chunk.minima[:, here] = tiles.load(minima, groups)
