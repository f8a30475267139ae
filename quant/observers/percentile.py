"""Ranges that leave the outermost values out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from quant.errors import InvalidScheme
from quant.observers.bins import DEFAULT_BINS, Histogram, count, folded, grown
from quant.observers.minmax import required
from quant.observers.qparams import QParams, qparams_of_range
from quant.observers.scheme import Scheme
from quant.observers.values import F64, I64


class PercentileObserver:
    """The range that holds ``percentile`` percent of the values; the rest is clipped.

    Symmetric schemes take the percentile of the magnitudes; affine ones leave half of the rest out at each
    end. Off by a bin's width at most; 100 is exactly ``MinMaxObserver``. Takes 8 bytes a bin and parameter.
    For outliers of activations, and for KV-cache scales. Source: McKinstry et al., arXiv 1809.04191.
    """

    def __init__(
        self,
        scheme: Scheme,
        percentile: float = 99.99,
        bins: int = DEFAULT_BINS,
        state: Histogram | None = None,
    ) -> None:
        if not 0 < percentile <= 100:
            raise InvalidScheme(f"percentile {percentile}; use more than 0, and at most 100")
        self.scheme = scheme
        self.percentile = percentile
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
        low, high = percentile_range(required(self.state), self.percentile, self.scheme.symmetric)
        return qparams_of_range(self.scheme, low, high)


def percentile_range(histogram: Histogram, percentile: float, symmetric: bool) -> tuple[F64, F64]:
    """Lowest and highest value kept, of the histogram's parameter shape."""
    shape = histogram.shape
    if symmetric:
        largest = np.maximum(-histogram.low, histogram.high)
        reach = quantile(folded(histogram), percentile / 100) * histogram.width
        high = np.minimum(reach, largest).reshape(shape)
        return -high, high
    share = 1 - (1 - percentile / 100) / 2
    top = (histogram.start + quantile(histogram.counts, share)) * histogram.width
    from_the_top = quantile(histogram.counts[:, ::-1], share)
    bottom = (histogram.start + histogram.bins - from_the_top) * histogram.width
    low, high = np.maximum(bottom, histogram.low), np.minimum(top, histogram.high)
    return low.reshape(shape), high.reshape(shape)


def quantile(counts: I64, share: float) -> F64:
    """[P]: how many bins, with a fraction, hold ``share`` (0 to 1, not 0) of the ``counts``, [P, bins]."""
    reached = counts.cumsum(axis=1)
    total = reached[:, -1]
    rank = np.minimum(share * total, total)
    last = (reached >= rank[:, None]).argmax(axis=1)
    of_last = np.take_along_axis(counts, last[:, None], axis=1)[:, 0]
    before = np.take_along_axis(reached, last[:, None], axis=1)[:, 0] - of_last
    return np.asarray(last + (rank - before) / of_last, np.float64)
