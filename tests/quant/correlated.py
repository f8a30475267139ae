"""Inputs as those of a model's matrices: correlated, and of very different size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from runtime.kernels.moments import gram, mirror

F32 = NDArray[np.float32]


def correlated(columns: int, tokens: int = 600, seed: int = 0) -> F32:
    """[tokens, columns]"""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((tokens, columns)) + 0.7 * rng.standard_normal((tokens, 1))
    x += 0.5 * np.roll(x, 1, axis=1)
    x *= np.exp(0.7 * rng.standard_normal(columns))
    return x.astype(np.float32)


def statistics_of(x: F32, block: int | None = None) -> InputStatistics:
    """Of one expert, with a Hessian in blocks of ``block`` columns, or a full one."""
    tokens, columns = x.shape
    size = block or columns
    moments = np.zeros((columns // size, size, size), dtype=np.float32)
    gram(np.ascontiguousarray(x), moments)
    mirror(moments)
    moments /= np.float32(tokens)
    diagonal = np.concatenate([np.diagonal(one) for one in moments])
    return InputStatistics(np.array([tokens]), diagonal[None], moments[None])


def weights_of(rows: int, columns: int, seed: int = 0) -> F32:
    """[rows, columns]: with tails, as weights have."""
    rng = np.random.default_rng(seed + 1000)
    return (0.02 * rng.standard_t(8, (rows, columns))).astype(np.float32)
