"""k-means with a weight for each coordinate of each point, for codebooks that follow a Hessian's diagonal.

Lloyd's algorithm from k-means++ starts (Arthur and Vassilvitskii 2007). Deterministic for a seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quant.errors import CannotEncode
from quant.formats.format import F32

F64 = NDArray[np.float64]
Indices = NDArray[np.intp]

CHUNK: Final = 1 << 22
"""Distances that are in memory at once."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """Where k-means ended."""

    centres: F32
    """[count, dimensions]"""
    error: float
    """Weighted squared error over the points' weighted squares."""
    rounds: int
    """How often centres were moved."""


def assign(points: F32, weights: F32, centres: F32) -> Indices:
    """[n]: the centre with the least sum of weights * (point - centre)^2, of equals the first.

    ``points`` and ``weights``: [n, dimensions]; ``centres``: [count, dimensions].
    """
    found = np.empty(len(points), np.intp)
    step = max(1, CHUNK // len(centres))
    for first in range(0, len(points), step):
        part = slice(first, first + step)
        found[part] = _costs(points[part], weights[part], centres).argmin(axis=1)
    return found


def kmeans(
    points: F32, weights: F32, count: int, *, seed: int, rounds: int = 30, tolerance: float = 1e-4
) -> Clusters:
    """``count`` centres for ``points`` [n, dimensions] under ``weights`` of the same shape, not below 0.

    Ends after ``rounds``, or when a round makes the error smaller by less than ``tolerance`` of it. A centre
    without points moves to the point that costs most. Raises :class:`CannotEncode` for fewer points than
    centres, and for numbers that are not finite.
    """
    if len(points) < count:
        raise CannotEncode(f"{len(points)} points are too few for {count} centres; take a smaller codebook")
    if points.shape != weights.shape:
        raise CannotEncode(f"points {points.shape} and weights {weights.shape} must have one shape")
    if not np.isfinite(points).all() or not np.isfinite(weights).all() or (weights < 0).any():
        raise CannotEncode("points and weights must be finite, and weights not below 0")
    if not weights.any():
        weights = np.ones_like(weights)
    energy = float((weights.astype(np.float64) * points.astype(np.float64) ** 2).sum())
    centres = _spread(points, weights, count, np.random.default_rng(seed))
    last, done = np.inf, 0
    while done < rounds:
        done += 1
        nearest = assign(points, weights, centres)
        costs = _own_costs(points, weights, centres, nearest)
        error = float(costs.sum())
        centres = _moved(points, weights, centres, nearest, costs)
        if error >= last * (1 - tolerance):
            break
        last = error
    nearest = assign(points, weights, centres)
    error = float(_own_costs(points, weights, centres, nearest).sum())
    return Clusters(centres, error / energy if energy > 0 else 0.0, done)


def _costs(points: F32, weights: F32, centres: F32) -> F32:
    """[n, count]"""
    costs = np.zeros((len(points), len(centres)), np.float32)
    for point, weight, centre in zip(points.T, weights.T, centres.T, strict=True):
        difference = point[:, None] - centre
        costs += weight[:, None] * difference * difference
    return costs


def _own_costs(points: F32, weights: F32, centres: F32, nearest: Indices) -> F64:
    """[n]"""
    difference = points.astype(np.float64) - centres[nearest]
    costs: F64 = (weights * difference**2).sum(axis=1)
    return costs


def _spread(points: F32, weights: F32, count: int, rng: np.random.Generator) -> F32:
    """k-means++: each next centre a point, chosen with a probability as what it costs so far."""
    chosen = [int(rng.integers(len(points)))]
    costs = _own_costs(points, weights, points[chosen], np.zeros(len(points), np.intp))
    while len(chosen) < count:
        total = costs.sum()
        share = costs / total if total > 0 else np.full(len(points), 1 / len(points))
        chosen.append(int(np.searchsorted(np.cumsum(share), rng.random()).clip(max=len(points) - 1)))
        costs = np.minimum(
            costs, _own_costs(points, weights, points[chosen[-1:]], np.zeros(len(points), np.intp))
        )
    return points[chosen].astype(np.float32)


def _moved(points: F32, weights: F32, centres: F32, nearest: Indices, costs: F64) -> F32:
    """Every centre in the weighted mean of its points."""
    count, moved = len(centres), centres.copy()
    for axis in range(points.shape[1]):
        weight = weights[:, axis].astype(np.float64)
        total = np.bincount(nearest, weight, count)
        sums = np.bincount(nearest, weight * points[:, axis], count)
        moved[:, axis] = np.where(total > 0, sums / np.where(total > 0, total, 1), centres[:, axis])
    empty = np.flatnonzero(np.bincount(nearest, minlength=count) == 0)
    if empty.size:
        moved[empty] = points[np.argsort(-costs, kind="stable")[: empty.size]]
    return moved
