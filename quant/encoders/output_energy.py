"""What rows of weights, or of their errors, give in a matrix's output, over calibration's inputs.

Of an input x with second moments H = E[x x^T], a row w gives E[(w x)^2] = w H w^T. Where only the diagonal of
H is known, columns count as independent; where nothing is, all count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from quant.formats.format import F32
from runtime.kernels.tiles import FeedbackTiles, Start, load, store

F64 = NDArray[np.float64]

_COLUMNS = 256
"""Columns of a product that are made together."""


@dataclass(frozen=True)
class OutputEnergy:
    """w H w^T of rows w, with the moments of one expert's input. The same bits for any split of the rows."""

    statistics: InputStatistics | None
    expert: int = 0

    def __call__(self, rows: F32) -> F64:
        """[rows, columns] -> [rows], not below 0."""
        found = self.statistics
        if not len(rows):
            return np.zeros(0)
        if found is None or not found.tokens[self.expert] or not found.mean_square[self.expert].any():
            return _sums(rows, rows)
        if found.gram is None:
            return _sums(rows, rows * found.mean_square[self.expert])
        total = np.zeros(len(rows))
        for index, moments in enumerate(found.gram[self.expert]):
            some = np.ascontiguousarray(rows[:, index * len(moments) : (index + 1) * len(moments)])
            total += _sums(some, product(some, moments))
        return np.maximum(total, 0.0)


def of_rounded_inputs(statistics: InputStatistics | None, expert: int, rows: F32, block: int) -> F64:
    """[rows]: what it adds to the energy of an output that inputs are rounded to bytes, ``block`` values by
    ``block``, before they are multiplied by ``rows`` [rows, columns].

    A step is a 127th of the block's peak, and the error uniform within it and independent (Bennett 1948):
    variance step^2 / 12. 0 where nothing is known of the inputs' peaks.
    """
    if statistics is None or block not in statistics.peaks:
        return np.zeros(len(rows))
    variances = statistics.peaks[block][expert].astype(np.float64) / (127**2 * 12)
    squares = np.square(rows.astype(np.float64)).reshape(len(rows), -1, block).sum(axis=2)
    total: F64 = (squares * variances).sum(axis=1)
    return total


def product(rows: F32, moments: F32) -> F32:
    """``rows`` [rows, n] times the symmetric ``moments`` [n, n], each sum in the order of the columns."""
    columns = np.arange(rows.shape[1], dtype=np.uint32)
    tiled = load(rows, columns)
    work = FeedbackTiles(
        weights=tiled,
        scales=np.zeros((len(tiled), 1, tiled.shape[2]), np.float32),
        minima=None,
        group_of=np.zeros(len(columns), np.uint32),
        coefficients=moments,
        errors=tiled,
    )
    found = np.empty(rows.shape, np.float32)
    for first in range(0, len(columns), _COLUMNS):
        last = min(first + _COLUMNS, len(columns))
        part = work.targets(first, last, (0, len(columns)), Start.ZERO)
        store(part, columns[first:last], found)
    return found


def _sums(left: F32, right: F32) -> F64:
    """[rows]: sums of products over a row, in an order that only its length decides."""
    total: F64 = (left.astype(np.float64) * right.astype(np.float64)).sum(axis=1)
    return total
