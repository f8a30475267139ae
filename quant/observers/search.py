"""The range with the least error, by trying: nearly the best one, at a bounded number of evaluations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from quant.observers.qparams import QParams, qparams_of_range
from quant.observers.scheme import Scheme
from quant.observers.values import F64

Error = Callable[[QParams], F64]
"""Parameters of shape [P] -> errors [P]."""

_OCTAVES = 8
"""Below the full range, where the search ends: two bits of a heavy tail clip at a hundredth of it."""
_COARSE = [2.0 ** (-step / 4) for step in range(-2, 4 * _OCTAVES + 1)]
"""Of the full range; a little beyond it too, where a few values may fit wider steps better."""
_FINE = [[2.0 ** (-step / steps) for step in range(-4, 5) if step] for steps in (16, 64)]
"""Of the best so far: around it, 4 and 16 times finer."""
_BOTH, _LOW, _HIGH = (np.array([[low], [high]], bool) for low, high in ((1, 1), (1, 0), (0, 1)))


def least_error(scheme: Scheme, low: F64, high: F64, error: Error) -> QParams:
    """Parameters of a range up to about ``[low, high]``, [P], such that ``error`` is small.

    Symmetric: 52 evaluations; affine: 256, each end being moved on its own, twice, after both together. The
    full range is always tried, so the result is never worse than that of ``MinMaxObserver``.
    """
    bottom, top = np.minimum(low, 0.0), np.maximum(high, 0.0)
    if scheme.symmetric:
        top = np.maximum(-bottom, top)
        bottom = -top
    ends = np.stack([bottom, top])
    best = np.ones_like(ends)  # of the full range's ends, [2, P]
    least = error(qparams_of_range(scheme, *ends))
    for moved in [_BOTH] if scheme.symmetric else [_BOTH, _LOW, _HIGH, _LOW, _HIGH]:
        for ratios in (_COARSE, *_FINE):
            start = np.where(moved, 1.0, best) if ratios is _COARSE else best
            for ratio in ratios:
                tried = np.where(moved, start * ratio, start)
                found = error(qparams_of_range(scheme, *(ends * tried)))
                better = found < least
                least = np.where(better, found, least)
                best = np.where(better, tried, best)
    return qparams_of_range(scheme, *(ends * best))
