"""Ranges with the least mean squared error."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from quant.observers.bins import DEFAULT_BINS, Histogram, count, grown
from quant.observers.minmax import required
from quant.observers.qparams import PIECE, QParams, joined
from quant.observers.scheme import Scheme
from quant.observers.search import least_error
from quant.observers.values import F64


class MSEObserver:
    """The range with the least mean squared error over all batches, estimated on histograms.

    Mergeable. Within a bin, values count as evenly spread, so use several bins for each code; a range is
    found by search, not proven best. Takes 8 bytes a bin and parameter. For one array that is there as a
    whole, weights above all, :func:`least_squares_qparams` is exact and needs no histogram. Source: Banner et
    al., arXiv 1810.05723 (ACIQ), with the measured distribution in place of a Laplacian.
    """

    def __init__(self, scheme: Scheme, bins: int = DEFAULT_BINS, state: Histogram | None = None) -> None:
        self.scheme = scheme
        self.bins = bins
        self.state = state

    def observe(self, x: ArrayLike) -> None:
        """Take in a batch; an empty one adds nothing.

        Raises :class:`NotFinite`, or :class:`InvalidScheme` if the batch has other parameters than those
        before, or if the histograms would take more than 1 GiB.
        """
        self.state = grown(self.state, count(self.scheme.granularity, x, self.bins))

    def calculate_qparams(self) -> QParams:
        """Parameters of what was seen. Raises :class:`NothingObserved` if that is nothing."""
        state = required(self.state)
        found = [
            least_error(self.scheme, part.low, part.high, partial(histogram_error, part))
            for part in _parts(state)
        ]
        return joined(found, state.shape)


def histogram_error(histogram: Histogram, qparams: QParams) -> F64:
    """[P]: the sum of squared errors, values spread evenly over their bin's part between the extremes.

    ``qparams`` have the shape [P]. Exact under that assumption: the squared error of a uniform quantizer has
    the closed integral step**3 * (n / 12 + (v - n)**3 / 3) from zero to v steps, n being the nearest step it
    has.
    """
    edges = np.clip(histogram.edges, histogram.low[:, None], histogram.high[:, None])
    scale = qparams.scale.astype(np.float64)[:, None]
    zero_point = qparams.zero_point.astype(np.float64)[:, None]
    lowest, highest = qparams.scheme.lowest - zero_point, qparams.scheme.highest - zero_point
    steps = edges / scale
    nearest = np.clip(np.rint(steps), lowest, highest)
    integral = nearest / 12 + (steps - nearest) ** 3 / 3
    width = np.diff(steps, axis=1)
    at_a_point = (steps[:, :-1] - nearest[:, :-1]) ** 2
    narrow = width < 1e-6  # where the difference of two integrals would be all rounding
    mean = np.where(narrow, at_a_point, np.diff(integral, axis=1) / np.where(narrow, 1.0, width))
    error: F64 = (histogram.counts * mean).sum(axis=1) * scale[:, 0] ** 2
    return error


def _parts(histogram: Histogram) -> Iterator[Histogram]:
    """Of so many parameters that computing with their bins takes little memory."""
    tall = max(1, PIECE // histogram.bins)
    for row in range(0, len(histogram.counts), tall):
        own = slice(row, row + tall)
        counts = histogram.counts[own]
        yield Histogram(
            (len(counts),),
            counts,
            histogram.start[own],
            histogram.exponent[own],
            histogram.zeros[own],
            histogram.low[own],
            histogram.high[own],
        )
