"""Codes and scales once more, under the whole Hessian: coordinate descent after error feedback.

Error feedback never comes back to a column. Here every code goes where the loss is least, given all others;
then every scale and minimum, as a format stores them, given all codes. What does not lower the loss is not
done.
"""

from __future__ import annotations

import numpy as np

from quant.encoders.grids import Grids, format_data
from quant.encoders.hessian import Factor
from quant.formats.format import F32, Format
from runtime.kernels import tiles
from runtime.kernels.tiles import Descent, FeedbackTiles, Start, StoredGrid

LEAST_CURVATURE = np.float32(2.0**-126)
"""The smallest float32 whose inverse is one too."""


def refine(
    fmt: Format, weights: F32, rounded: FeedbackTiles, grids: Grids, factor: Factor, hessian: F32, sweeps: int
) -> FeedbackTiles:
    """``rounded`` (columns in the factor's order) after ``sweeps`` over all columns, now as they lie.

    ``weights`` [rows, n]; ``hessian`` [n, n] is the matrix that ``factor`` was made of. ``grids``, of the
    same rows and columns, are changed too.
    """
    columns = np.arange(factor.order.size, dtype=np.uint32)
    place = np.argsort(factor.order)
    work = FeedbackTiles(
        weights=tiles.load(weights, columns),
        scales=rounded.scales,
        minima=rounded.minima,
        group_of=columns // np.uint32(fmt.group),
        coefficients=hessian,
        isa=rounded.isa,
        errors=np.ascontiguousarray(rounded.errors[:, place]),
        codes=np.ascontiguousarray(rounded.codes[:, place]),
    )
    diagonal = np.diagonal(hessian) + np.float32(factor.ridge)
    steps = np.divide(1, diagonal, out=np.zeros_like(diagonal), where=diagonal >= LEAST_CURVATURE)
    descent = Descent(steps, factor.ridge, passes=1)
    stored = _load(grids)
    data = format_data(fmt)
    for _ in range(sweeps):
        for first in range(0, columns.size, tiles.REFINE_COLUMNS):
            last = min(first + tiles.REFINE_COLUMNS, columns.size)
            outside = work.targets(first, last, (0, first), Start.ZERO)
            work.targets(first, last, (last, columns.size), Start.TARGETS, outside)
            work.refine(data, stored, descent, first, outside)
    _store(stored, grids)
    return work


def _load(grids: Grids) -> StoredGrid:
    return StoredGrid(
        _tiles(grids.scale),
        None if grids.minimum is None else _tiles(grids.minimum),
        None if grids.scales is None else _tiles(grids.scales),
        None if grids.minima is None else _tiles(grids.minima),
    )


def _tiles(rows: F32) -> F32:
    return tiles.load(rows, np.arange(rows.shape[1], dtype=np.uint32))


def _store(stored: StoredGrid, grids: Grids) -> None:
    for of_tiles, rows in (
        (stored.scale, grids.scale),
        (stored.minimum, grids.minimum),
        (stored.scales, grids.scales),
        (stored.minima, grids.minima),
    ):
        if of_tiles is not None and rows is not None:
            tiles.store(of_tiles, np.arange(rows.shape[1], dtype=np.uint32), rows)
