"""Cholesky factors of every instruction set: S^T S is H again, and the bits are the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.kernels import available_isas
from runtime.kernels.factors import cholesky

SIZES = [1, 2, 3, 5, 64, 97, 127, 128, 129, 200, 300]


def positive(size: int) -> NDArray[np.float32]:
    """Correlated, with columns of very different size, and damped as a Hessian is."""
    rng = np.random.default_rng(size)
    x = rng.standard_normal((2 * size, size)) + rng.standard_normal((2 * size, 1))
    x *= np.exp(2 * rng.standard_normal(size))
    h = x.T @ x / len(x)
    h[np.diag_indices(size)] += 0.01 * np.diagonal(h).mean()
    return h.astype(np.float32)


def factor(h: NDArray[np.float32], threads: int = 1, isa: str | None = None) -> NDArray[np.float32]:
    lower = h.copy()
    lower[np.triu_indices(len(h), 1)] = np.nan  # never read
    assert cholesky(lower, least=0.0, threads=threads, isa=isa) is None
    return np.tril(lower)


def worst(lower: NDArray[np.float32], h: NDArray[np.float32]) -> float:
    """The largest error of S^T S, as a part of sqrt(h_ii h_jj) and what rounding can make of it."""
    wide = lower.astype(np.float64)
    size = np.sqrt(np.diagonal(h).astype(np.float64))
    bound = (len(h) + 4) * 2.0**-24 * np.outer(size, size)
    return float((np.abs(wide.T @ wide - h) / bound).max())


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("size", SIZES)
def test_the_factor_squared_is_the_matrix(isa: str, size: int) -> None:
    h = positive(size)
    assert worst(factor(h, isa=isa), h) <= 1


def test_one_changed_element_is_noticed() -> None:
    h = positive(97)
    lower = factor(h)
    lower[60, 60] *= np.float32(1.001)
    assert worst(lower, h) > 1


@pytest.mark.parametrize("size", SIZES)
def test_instruction_sets_and_threads_give_the_same_bits(size: int) -> None:
    h = positive(size)
    first, *others = [factor(h, threads, isa) for isa in available_isas() for threads in (1, 3)]
    assert all(np.array_equal(first, other) for other in others)


def test_the_factor_is_the_one_with_a_positive_diagonal_that_begins_at_the_last_row() -> None:
    h = positive(200)
    turned = np.linalg.cholesky(h[::-1, ::-1].astype(np.float64))[::-1, ::-1].T
    assert np.allclose(factor(h), turned, rtol=1e-3, atol=1e-5 * np.abs(turned).max())


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("row", [0, 5, 127, 128, 299])
def test_the_row_of_a_pivot_that_is_not_positive_is_told(isa: str, row: int) -> None:
    h = np.eye(300, dtype=np.float32)
    h[row, row] = -1
    assert cholesky(h, least=0.0, isa=isa) == row


def test_a_pivot_has_to_exceed_the_least_one_and_nan_does_not() -> None:
    assert cholesky(np.eye(4, dtype=np.float32), least=1.0) == 3
    h = np.eye(4, dtype=np.float32)
    h[2, 2] = np.nan
    assert cholesky(h, least=0.0) == 2


def test_other_types_and_shapes_are_refused() -> None:
    for h in (np.eye(4), np.ones((4, 3), np.float32), np.eye(8, dtype=np.float32)[::2, ::2]):
        with pytest.raises(ValueError, match="must be a contiguous float32 square"):
            cholesky(h, least=0.0)  # type: ignore[arg-type]
