"""Histograms that grow: bins a power of two wide, on multiples of that width.

A range that grows doubles the width, which adds neighbouring bins together: no count is ever split or
guessed, unlike in PyTorch's observer, which spreads counts over the new bins. So a histogram is a function of
the values seen alone: batches in any order, or histograms merged in any order, give the same counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from quant.errors import InvalidScheme
from quant.observers.granularity import Granularity, parameter_shape, to_rows
from quant.observers.minmax import require_same_shape
from quant.observers.qparams import pieces
from quant.observers.values import F64, I64, finite

DEFAULT_BINS = 4096
MOST_BYTES = 1 << 30
FINEST = -180
"""Exponent of the narrowest bins: zeros alone, and the smallest subnormal float32 in 65536 bins, fit."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values for each of the ``P`` parameters of a granularity.

    Bin ``b`` of parameter ``p`` counts values from ``(start[p] + b) * 2**exponent[p]`` up to the next bin's.
    The bins cover zero, and about half of them or more lie between the extremes of the values and zero.
    """

    shape: tuple[int, ...]
    """Of the granularity's parameters; ``P`` is its product."""
    counts: I64
    """[P, bins]"""
    start: I64
    """[P]"""
    exponent: I64
    """[P]"""
    zeros: I64
    """[P]: of the counts, those of zero itself."""
    low: F64
    """[P]: the smallest value, exactly."""
    high: F64
    """[P]: the largest value, exactly."""

    @property
    def bins(self) -> int:
        """Bins for each parameter."""
        return int(self.counts.shape[1])

    @property
    def width(self) -> F64:
        """[P]: width of a bin."""
        return np.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> F64:
        """[P, bins + 1]: where bins begin, and the last one ends."""
        numbers = self.start[:, None] + np.arange(self.bins + 1)
        return np.ldexp(numbers.astype(np.float64), self.exponent[:, None])


def count(granularity: Granularity, x: ArrayLike, bins: int = DEFAULT_BINS) -> Histogram | None:
    """The histogram of one array; None for an empty one.

    Takes 8 * P * bins bytes. Raises :class:`NotFinite`; :class:`InvalidScheme` for fewer than 2 or more than
    65536 bins, or for more than 1 GiB of them.
    """
    values = finite(x)
    shape = parameter_shape(granularity, values.shape)
    if not 2 <= bins <= 1 << 16:
        raise InvalidScheme(f"{bins} bins in a histogram; use 2 to 65536")
    if values.size == 0:
        return None
    rows = to_rows(granularity, values)
    parameters = len(rows)
    if 8 * parameters * bins > MOST_BYTES:
        raise InvalidScheme(
            f"{parameters} histograms of {bins} bins need {8 * parameters * bins >> 20} MiB, more than "
            f"{MOST_BYTES >> 20}; use fewer bins, fewer scales, or a range that needs no histogram"
        )
    low, high = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
    exponent = _exponent(low, high, bins)
    start = _bin(np.minimum(low, 0), exponent)
    counts = np.zeros((parameters, bins), np.int64)
    for part in pieces(*rows.shape):
        own = part[0], None
        index = _bin(rows[part].astype(np.float64), exponent[own]) - start[own]
        np.add.at(counts[part[0]], (np.arange(len(index))[:, None], index), 1)
    zeros = np.count_nonzero(rows == 0, axis=1).astype(np.int64)
    return Histogram(shape, counts, start, exponent, zeros, low, high)


def merge(one: Histogram, other: Histogram) -> Histogram:
    """The histogram of what two saw; associative and commutative, exactly."""
    require_same_shape(one.shape, other.shape)
    if one.bins != other.bins:
        raise InvalidScheme(
            f"histograms of {one.bins} and {other.bins} bins cannot be merged; use one number"
        )
    low, high = np.minimum(one.low, other.low), np.maximum(one.high, other.high)
    exponent = _exponent(low, high, one.bins)
    start = _bin(np.minimum(low, 0), exponent)
    counts = np.zeros_like(one.counts)
    for part in (one, other):
        rows, bins = part.counts.nonzero()
        # a wider bin holds whole narrower ones, so shifting the index right is exact, below zero too
        index = (part.start[rows] + bins) >> np.minimum(exponent - part.exponent, 63)[rows]
        np.add.at(counts, (rows, index - start[rows]), part.counts[rows, bins])
    return Histogram(one.shape, counts, start, exponent, one.zeros + other.zeros, low, high)


def grown(state: Histogram | None, batch: Histogram | None) -> Histogram | None:
    """``state`` after one more batch."""
    if state is None or batch is None:
        return state or batch
    return merge(state, batch)


def folded(histogram: Histogram) -> I64:
    """[P, n]: counts of magnitudes, in bins of the same width from zero on.

    A negative bin counts with the positive one that mirrors it.
    """
    below, above = -histogram.start, histogram.bins + histogram.start
    size = int(max(below.max(), above.max()))
    counts = np.zeros((len(histogram.counts), size), np.int64)
    rows, bins = histogram.counts.nonzero()
    index = histogram.start[rows] + bins
    np.add.at(counts, (rows, np.where(index < 0, -1 - index, index)), histogram.counts[rows, bins])
    return counts


def _exponent(low: F64, high: F64, bins: int) -> I64:
    """The narrowest power of two in whose bins ``[low, high]`` and zero fit."""
    bottom, top = np.minimum(low, 0), np.maximum(high, 0)
    largest = np.maximum(-bottom, top)
    _, magnitude = np.frexp(largest)  # largest < 2**magnitude
    # to begin with: bins this narrow or narrower cannot hold even the larger side
    exponent = np.where(largest > 0, magnitude - 1 - (bins - 1).bit_length(), FINEST).astype(np.int64)
    exponent = np.maximum(exponent, FINEST)
    while True:
        wide = _bin(top, exponent) - _bin(bottom, exponent) >= bins
        if not wide.any():
            return exponent
        exponent = exponent + wide


def _bin(values: F64, exponent: I64) -> I64:
    """The number of the bin of each value; scaling by a power of two is exact."""
    return np.floor(np.ldexp(values, -exponent)).astype(np.int64)
