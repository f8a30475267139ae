"""Hessians of a matrix's squared output error, and their factors for error feedback.

Of an input x with second moments H = E[x x^T], rounding rows W to Q costs tr((W - Q) H (W - Q)^T): the proxy
loss of GPTQ (Frantar et al. 2022) and LDLQ (Chee et al. 2023). With H = S^T S, S lower triangular, it is
the sum over columns k of S_kk^2 |target_k - q_k|^2, where target_k = w_k + sum over i < k of (w_i - q_i)
S_ki / S_kk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from quant.errors import CannotEncode
from runtime.kernels.factors import cholesky

F32 = NDArray[np.float32]
U32 = NDArray[np.uint32]

Order = Literal["natural", "importance", "blocks"]
"""In which order columns are rounded: as they lie; the largest mean square first (GPTQ's act-order); or
blocks of the format, the most important first, their columns likewise."""

RETRIES = 8


@dataclass(frozen=True, slots=True)
class Factor:
    """One diagonal block of a Hessian, factored for the columns [first, first + n)."""

    first: int
    order: U32
    """[n]: which column of the block is rounded when."""
    coefficients: F32
    """[n, n], unit lower triangular, 0 above: what the error of column i adds to the target of column k, both
    counted in ``order``."""
    pivots: F32
    """[n], in ``order``: what a squared rounding error of each column costs, S_kk^2."""
    damping: float
    """What was added to the diagonal, relative to its mean."""
    ridge: float
    """The same, absolute."""


def hessians(statistics: InputStatistics, expert: int = 0) -> Iterator[tuple[int, F32]]:
    """First column and matrix [n, n] of each diagonal block. Raises :class:`CannotEncode` without any."""
    if statistics.gram is None:
        raise CannotEncode(
            "the calibration kept no Hessian of this matrix's input; round it to nearest instead"
        )
    for index, block in enumerate(statistics.gram[expert]):
        yield index * block.shape[0], block


def hessian_of(factor: Factor, statistics: InputStatistics, expert: int = 0) -> F32:
    """The matrix [n, n] that ``factor`` was made of, its columns as they lie."""
    return next(hessian for first, hessian in hessians(statistics, expert) if first == factor.first)


def factors(
    statistics: InputStatistics,
    *,
    expert: int = 0,
    damping: float = 0.01,
    order: Order = "natural",
    block: int = 1,
    threads: int = 1,
    isa: str | None = None,
) -> Iterator[Factor]:
    """The factors of all diagonal blocks, one at a time; order ``"blocks"`` needs the format's ``block``."""
    for first, hessian in hessians(statistics, expert):
        columns = ranked(np.diagonal(hessian), order, block)
        yield factor(hessian, columns, first=first, damping=damping, threads=threads, isa=isa)


def ranked(diagonal: F32, order: Order, block: int) -> U32:
    """[n]: columns in the order in which they are rounded; of equals the first comes first."""
    if order == "natural":
        return np.arange(diagonal.size, dtype=np.uint32)
    columns = np.argsort(-diagonal, kind="stable")
    if order == "importance":
        return columns.astype(np.uint32)
    sums = np.array([math.fsum(some) for some in diagonal.reshape(-1, block)])
    rank = np.empty(sums.size, dtype=np.int64)
    rank[np.argsort(-sums, kind="stable")] = np.arange(sums.size)
    return columns[np.argsort(rank[columns // block], kind="stable")].astype(np.uint32)


def factor(
    hessian: F32,
    order: U32,
    *,
    first: int = 0,
    damping: float = 0.01,
    threads: int = 1,
    isa: str | None = None,
) -> Factor:
    """Factors ``hessian`` [n, n] (symmetric, positive semi-definite; not changed), columns in ``order``.

    ``damping`` times the mean of the positive diagonal is added to the diagonal. A column with 0 there (an
    input that was never anything else) has no more than that: its errors reach no other column. When a pivot
    drowns in rounding, damping is made four times as large and at least 1e-4, up to ``RETRIES`` times. Raises
    :class:`CannotEncode` when that does not help, or when the Hessian is not finite.
    """
    diagonal = np.diagonal(hessian)
    if not np.isfinite(diagonal).all() or not np.isfinite(hessian).all():
        raise CannotEncode("the Hessian holds NaN or infinity; calibrate again with other texts")
    alive = diagonal > 0
    mean = math.fsum(diagonal[alive]) / alive.sum() if alive.any() else 1.0
    drowned = float(diagonal.max()) * 2.0**-24
    for _ in range(RETRIES):
        added = damping * mean
        lower = _permuted(hessian, order)
        lower[np.diag_indices_from(lower)] += np.float32(added)
        if cholesky(lower, least=max(0.25 * added, drowned), threads=threads, isa=isa) is None:
            break
        damping = max(4 * damping, 1e-4)
    else:
        raise CannotEncode(
            f"the Hessian cannot be factored even with a damping of {damping / 4:g}: it is not positive"
            " semi-definite; calibrate again"
        )
    for row in range(0, lower.shape[0], 256):
        square = lower[row : row + 256, row : row + 256]
        square[...] = np.tril(square)
        lower[row : row + 256, row + 256 :] = 0
    roots = np.diagonal(lower).copy()
    lower /= roots[:, None]
    return Factor(first, order, lower, roots * roots, damping, added)


def _permuted(hessian: F32, order: U32) -> F32:
    permuted = np.empty_like(hessian)
    for row in range(0, order.size, 256):  # by parts: no second matrix is in memory
        some = np.take(hessian, order[row : row + 256], axis=0)
        np.take(some, order, axis=1, out=permuted[row : row + 256], mode="clip")  # raise would copy
    return permuted


def proxy_loss(weights: F32, values: F32, statistics: InputStatistics, *, expert: int = 0) -> float:
    """tr((W - Q) H (W - Q)^T) / tr(W H W^T): the part of the output's energy that rounding W to Q costs.

    ``weights`` and ``values``: [rows, columns]. In float64 by NumPy; for reports, not for decisions.
    """
    lost = energy = 0.0
    for first, hessian in hessians(statistics, expert):
        h = hessian.astype(np.float64)
        w = weights[:, first : first + h.shape[0]].astype(np.float64)
        error = w - values[:, first : first + h.shape[0]]
        lost += float(((error @ h) * error).sum())
        energy += float(((w @ h) * w).sum())
    return lost / energy if energy > 0 else 0.0
