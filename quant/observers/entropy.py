"""The threshold at which a quantized histogram diverges least from the original.

Source: Migacz, "8-bit Inference with TensorRT", GTC 2017, "Entropy Calibration - pseudocode".
"""

from __future__ import annotations

import numpy as np

from quant.observers.values import F64, I64

LEAST_KEPT = 0.9
"""Share of the values that a range holds at least."""


def least_divergent(counts: I64, levels: int, zero: int = 0) -> int:
    """How many bins to keep on each side of zero, so that ``levels`` levels tell the histogram best.

    ``counts``: [bins], of which the first ``zero`` are of negative values. Every number of bins from the
    first that gives each level a bin of its own is tried; of equals, the largest is taken. All bins are kept
    where they are no more than the levels.

    The published pseudocode leaves two cases open. Where the bins are no multiple of the levels, bin ``b`` of
    ``n`` belongs to level ``b * levels // n``. And outliers are clipped into the outermost kept bin that is
    occupied: in an empty one they would make the candidate infinitely far, and a few of them beyond a gap
    would never be clipped. One candidate is left out that is no good and diverges by nothing: the window at
    whose edge nearly everything is clipped into one bin.
    """
    occupied = counts.nonzero()[0]
    if occupied.size == 0:
        return 0
    reached = np.concatenate([[0], counts.cumsum()])
    furthest = int(max(zero - occupied[0], occupied[-1] + 1 - zero))
    best, least = furthest, np.inf
    for kept in range(1, furthest + 1):
        first, last = max(0, zero - kept), min(len(counts), zero + kept)
        if last - first < levels or reached[last] - reached[first] < LEAST_KEPT * reached[-1]:
            continue
        found = divergence(counts, first, last, levels)
        if found <= least:
            best, least = kept, found
    return best


def divergence(counts: I64, first: int, last: int, levels: int) -> float:
    """KL divergence of bins ``first`` to ``last`` (exclusive), outliers clipped into the outermost of them,
    from the same bins told by ``levels`` levels.

    At least as many bins as levels; infinite where they are all empty.
    """
    kept = counts[first:last].astype(np.float64)
    told = kept.nonzero()[0]
    if told.size == 0:
        return float("inf")
    reference = kept.copy()
    reference[told[0]] += counts[:first].sum()
    reference[told[-1]] += counts[last:].sum()
    p = reference[told] / reference.sum()
    q = merged(kept, levels)[told] / kept.sum()
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
