"""The threshold at which a quantized histogram diverges least from the original.

Source: Migacz, "8-bit Inference with TensorRT", GTC 2017, "Entropy Calibration - pseudocode".
"""

from __future__ import annotations

import numpy as np

from quant.observers.values import F64, I64


def least_divergent(counts: I64, levels: int, zero: int = 0) -> int:
    """How many bins to keep on each side of zero, so that ``levels`` levels tell the histogram best.

    ``counts``: [bins], of which the first ``zero`` are of negative values. Every number of bins from the
    first that gives each level a bin of its own is tried; of equals, the largest is taken. All bins are kept
    where that is not more than the levels. The published pseudocode leaves two cases open: where the bins are
    no multiple of the levels, bin ``b`` of ``n`` belongs to level ``b * levels // n``; and a candidate is
    infinitely far where its last bin is empty but for the outliers.
    """
    occupied = counts.nonzero()[0]
    if occupied.size == 0:
        return 0
    furthest = int(max(zero - occupied[0], occupied[-1] + 1 - zero))
    best, least = furthest, np.inf
    for kept in range(1, furthest + 1):
        first, last = max(0, zero - kept), min(len(counts), zero + kept)
        if last - first < levels:
            continue
        found = divergence(counts, first, last, levels)
        if found <= least:
            best, least = kept, found
    return best


def divergence(counts: I64, first: int, last: int, levels: int) -> float:
    """KL divergence of bins ``first`` to ``last`` (exclusive), outliers clipped into the outermost of them,
    from the same bins told by ``levels`` levels. At least as many bins as levels."""
    kept = counts[first:last].astype(np.float64)
    reference = kept.copy()
    reference[0] += counts[:first].sum()
    reference[-1] += counts[last:].sum()
    candidate = merged(kept, levels)
    told = reference > 0
    if not candidate[told].all():
        return float("inf")
    p = reference[told] / reference.sum()
    q = candidate[told] / candidate.sum()
    return float((p * np.log(p / q)).sum())


def merged(counts: F64, levels: int) -> F64:
    """``counts`` told by ``levels`` levels: each level's total, spread evenly over its occupied bins."""
    bins = len(counts)
    begins = -(-np.arange(levels) * bins // levels)
    occupied = np.add.reduceat((counts > 0).astype(np.float64), begins)
    mean = np.add.reduceat(counts, begins) / np.maximum(occupied, 1)
    lengths = np.diff(begins, append=bins)
    spread: F64 = np.repeat(mean, lengths) * (counts > 0)
    return spread
