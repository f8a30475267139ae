"""Factors of Hessians: orders, damping, inputs that are never there, and the loss that they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from quant.calibration.statistics import InputStatistics
from quant.encoders.hessian import Factor, Order, factor, factors, hessian_of, proxy_loss, ranked
from quant.errors import CannotEncode
from tests.quant.correlated import F32, correlated, statistics_of, weights_of


def hessian(columns: int, **more: int) -> F32:
    statistics = statistics_of(correlated(columns, **more))
    assert statistics.gram is not None
    found: F32 = statistics.gram[0, 0]
    return found


def natural(columns: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.arange(columns, dtype=np.uint32)


def rebuilt(found: Factor) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The matrix of a factor, columns as they lie."""
    lower = found.coefficients.astype(np.float64)
    product = lower.T @ (found.pivots[:, None] * lower)
    back = np.empty_like(product)
    back[np.ix_(found.order, found.order)] = product
    return back


@pytest.mark.parametrize("order", ["natural", "importance", "blocks"])
@pytest.mark.parametrize("damping", [0.001, 0.01, 0.1])
def test_a_factor_is_that_of_the_damped_hessian_in_its_order(order: Order, damping: float) -> None:
    h = hessian(192)
    found = factor(h, ranked(np.diagonal(h), order, 32), damping=damping)
    mean = np.diagonal(h).mean(dtype=np.float64)
    assert found.ridge == pytest.approx(damping * mean)
    assert found.damping == damping
    assert np.array_equal(np.triu(found.coefficients), np.eye(192))
    wanted = h.astype(np.float64) + found.ridge * np.eye(192)
    assert np.abs(rebuilt(found) - wanted).max() < 1e-5 * np.abs(wanted).max()
    undamped = rebuilt(found) - h
    assert np.abs(undamped).max() > 0.5 * found.ridge, "without the ridge it is noticed"


def test_a_large_factor_has_nothing_above_its_diagonal() -> None:
    found = factor(hessian(640), natural(640))
    assert np.array_equal(np.triu(found.coefficients), np.eye(640))
    assert np.abs(np.tril(found.coefficients, -300)).max() > 0


def test_orders_rank_columns_and_blocks_by_their_mean_square() -> None:
    diagonal = np.array([1, 5, 2, 2, 9, 0, 3, 3], dtype=np.float32)
    assert ranked(diagonal, "natural", 2).tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert ranked(diagonal, "importance", 2).tolist() == [4, 1, 6, 7, 2, 3, 0, 5]
    assert ranked(diagonal, "blocks", 2).tolist() == [4, 5, 1, 0, 6, 7, 2, 3]


def test_columns_without_input_are_free_and_reach_no_other() -> None:
    x = correlated(96)
    x[:, [0, 17, 95]] = 0
    statistics = statistics_of(x)
    (found,) = factors(statistics, order="natural")
    for column in (0, 17, 95):
        assert found.pivots[column] == pytest.approx(found.ridge)
        assert np.count_nonzero(found.coefficients[column]) == 1
        assert np.count_nonzero(found.coefficients[:, column]) == 1
    alive = np.delete(np.arange(96), [0, 17, 95])
    (of_alive,) = factors(statistics_of(np.ascontiguousarray(x[:, alive])), order="natural")
    assert np.allclose(found.coefficients[np.ix_(alive, alive)], of_alive.coefficients, atol=1e-5)


def test_an_input_that_was_never_there_at_all_gives_the_identity() -> None:
    (found,) = factors(statistics_of(np.zeros((5, 32), dtype=np.float32)))
    assert np.array_equal(found.coefficients, np.eye(32))
    assert np.ptp(found.pivots) == 0


def test_damping_grows_until_a_singular_hessian_can_be_factored() -> None:
    h = hessian(128, tokens=20)
    assert factor(h, natural(128), damping=0.01).damping == 0.01
    found = factor(h, natural(128), damping=1e-12)
    assert found.damping > 1e-9
    assert np.isfinite(found.coefficients).all()
    assert np.isfinite(factor(h, natural(128), damping=0.0).coefficients).all()


def test_a_matrix_that_is_no_hessian_is_an_error() -> None:
    with pytest.raises(CannotEncode, match="not positive semi-definite; calibrate again"):
        factor(np.array([[1, 1e6], [1e6, 1]], dtype=np.float32), natural(2))
    h = hessian(32)
    h[3, 4] = np.nan
    with pytest.raises(CannotEncode, match="NaN or infinity"):
        factor(h, natural(32))


def test_the_hessian_is_not_changed() -> None:
    h = hessian(160)
    kept = h.copy()
    factor(h, natural(160))
    assert np.array_equal(h, kept)


def test_blocks_of_a_hessian_are_factored_one_by_one() -> None:
    x = correlated(192)
    statistics = statistics_of(x, 64)
    found = list(factors(statistics, order="importance"))
    assert [one.first for one in found] == [0, 64, 128]
    for one in found:
        (alone,) = factors(
            statistics_of(np.ascontiguousarray(x[:, one.first : one.first + 64])), order="importance"
        )
        assert np.array_equal(one.coefficients, alone.coefficients)
        assert np.array_equal(one.order, alone.order)
        assert statistics.gram is not None
        assert np.array_equal(hessian_of(one, statistics), statistics.gram[0, one.first // 64])


def test_threads_do_not_change_a_factor() -> None:
    statistics = statistics_of(correlated(300))
    (one,), (three,) = (list(factors(statistics, threads=threads)) for threads in (1, 3))
    assert np.array_equal(one.coefficients, three.coefficients)
    assert np.array_equal(one.pivots, three.pivots)


def test_without_a_hessian_there_is_nothing_to_factor() -> None:
    bare = InputStatistics(np.array([5]), np.ones((1, 32), dtype=np.float32))
    with pytest.raises(CannotEncode, match="kept no Hessian"):
        list(factors(bare))


@pytest.mark.parametrize("block", [None, 64])
def test_the_proxy_loss_is_the_energy_of_the_outputs_error(block: int | None) -> None:
    x, weights = correlated(128), weights_of(10, 128)
    values = (np.round(weights * 100) / 100).astype(np.float32)
    loss = proxy_loss(weights, values, statistics_of(x, block))
    if block is None:
        output = x.astype(np.float64) @ weights.T
        error = x.astype(np.float64) @ (weights - values).T
        assert loss == pytest.approx((error**2).sum() / (output**2).sum(), rel=1e-4)
    assert proxy_loss(weights, weights, statistics_of(x, block)) == 0
    values[3, 7] += np.float32(0.01)
    assert proxy_loss(weights, values, statistics_of(x, block)) != pytest.approx(loss, rel=1e-4)


def test_the_loss_of_a_factor_is_that_of_its_hessian() -> None:
    h, weights = hessian(96), weights_of(4, 96)
    values = (np.round(weights * 50) / 50).astype(np.float32)
    found = factor(h, ranked(np.diagonal(h), "importance", 32), damping=0.01)
    error = (weights - values).astype(np.float64)[:, found.order]
    by_columns = ((error @ found.coefficients.T.astype(np.float64)) ** 2 * found.pivots).sum()
    plain = (weights - values).astype(np.float64)
    wanted = (plain @ (h + found.ridge * np.eye(96)) * plain).sum()
    assert by_columns == pytest.approx(wanted, rel=1e-5)
