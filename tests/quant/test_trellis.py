"""Words with error feedback: against plain NumPy, better than without, and the same however work is split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quant.calibration.statistics import InputStatistics
from quant.encoders.hessian import proxy_loss
from quant.encoders.rotation import between_words, choose_input, rotated, word_factors
from quant.encoders.trellis import LtOptions, decode, encode
from quant.errors import CannotEncode
from quant.formats.format import F32, U8
from quant.formats.lt import LT_FORMATS, STRIP_ROWS
from quant.formats.lt_input import LtInput, transform
from quant.formats.lt_tables import ERROR, TABLES
from runtime.kernels import available_isas
from tests.quant.correlated import correlated, statistics_of, weights_of

COLUMNS = 192


def encoded(
    name: str,
    weights: F32,
    statistics: InputStatistics,
    *,
    state_bits: int = 6,
    options: LtOptions | None = None,
    threads: int = 1,
    isa: str | None = None,
) -> tuple[U8, F32]:
    """The bytes and what they stand for."""
    fmt = LT_FORMATS[name]
    table, given = TABLES[fmt.bits, state_bits], choose_input(statistics, seed=1)
    factors = tuple(word_factors(fmt, statistics, given, threads=threads, isa=isa))
    data = encode(fmt, table, weights, given, factors, options=options, threads=threads, isa=isa)
    return data, decode(fmt, table, data, given, len(weights))


def identity(columns: int) -> InputStatistics:
    return InputStatistics(
        np.array([1]), np.ones((1, columns), np.float32), np.eye(columns, dtype=np.float32)[None, None]
    )


# --- rotation and factors ----------------------------------------------------


def test_rotated_hessians_are_those_of_rotated_inputs() -> None:
    x = correlated(256)
    statistics = statistics_of(x)
    given = choose_input(statistics, seed=3)
    plain = replace(given, order=np.arange(256, dtype=np.uint16))
    assert statistics.gram is not None
    wanted = statistics_of(transform(plain, x)).gram
    assert wanted is not None
    found = rotated(statistics.gram[0, 0], plain)
    assert np.abs(found - wanted[0, 0]).max() < 1e-4 * np.abs(wanted).max()
    energy = np.diagonal(found)[given.order]
    assert (np.diff(energy) <= 0).all()
    assert 0.3 < given.minus.mean() < 0.7
    assert not np.array_equal(choose_input(statistics, seed=4).minus, given.minus)


def test_orders_stay_within_the_blocks_of_the_hessian() -> None:
    given = choose_input(statistics_of(correlated(256), 128), seed=3)
    assert sorted(given.order[:128]) == list(range(128))


@pytest.mark.parametrize("columns", [4, 8])
def test_factors_between_words_make_the_loss_a_sum_over_words(columns: int) -> None:
    hessian = np.cov(correlated(64).T).astype(np.float64)
    lower = np.linalg.cholesky(hessian[::-1, ::-1]).T[::-1, ::-1]  # H = S^T S, S lower
    found = (lower / np.diagonal(lower)[:, None]).astype(np.float32)
    between_words(found, columns)
    error = np.random.default_rng(0).standard_normal(64)
    total = 0.0
    for first in range(0, 64, columns):
        here = slice(first, first + columns)
        assert np.abs(found[here, here] - np.eye(columns)).max() < 1e-6
        left = lower[here, here] @ (
            found[here, : first + columns].astype(np.float64) @ error[: first + columns]
        )
        total += float(left @ left)
    assert abs(total - error @ hessian @ error) < 1e-5 * total


def test_what_cannot_be_in_words_is_refused() -> None:
    with pytest.raises(CannotEncode, match="rows of 96 weights"):
        choose_input(statistics_of(correlated(96)), seed=1)
    with pytest.raises(CannotEncode, match="one of the rotation 128"):
        choose_input(statistics_of(correlated(256), 64), seed=1)
    with pytest.raises(CannotEncode, match="kept no Hessian"):
        choose_input(replace(identity(64), gram=None), seed=1)
    statistics = statistics_of(correlated(128))
    with pytest.raises(CannotEncode, match="rows have 64 weights"):
        given = choose_input(statistics, seed=1)
        factors = tuple(word_factors(LT_FORMATS["lt2"], statistics, given))
        encode(LT_FORMATS["lt2"], TABLES[2, 6], weights_of(8, 64), given, factors)


# --- encoding ----------------------------------------------------------------


@pytest.mark.parametrize(("bits", "state_bits"), list(TABLES))
def test_tables_have_the_error_on_gaussian_weights_that_they_say(bits: int, state_bits: int) -> None:
    rows = np.random.default_rng(bits * 10 + state_bits).standard_normal((512, 256), dtype=np.float32)
    _, values = encoded(
        f"lt{bits}", rows, identity(256), state_bits=state_bits, options=LtOptions(refit=False)
    )
    error = float(((rows - values) ** 2).mean() / (rows**2).mean())
    assert abs(error / ERROR[bits, state_bits] - 1) < 0.04
    table = TABLES[bits, state_bits]
    assert len(table.values) == 1 << state_bits
    assert max(map(abs, table.values)) <= (64 if state_bits == 4 else 127)


@pytest.mark.parametrize("name", LT_FORMATS)
def test_feedback_lowers_the_loss(name: str) -> None:
    weights, statistics = weights_of(130, COLUMNS), statistics_of(correlated(COLUMNS))
    with_feedback = proxy_loss(weights, encoded(name, weights, statistics)[1], statistics)
    without = proxy_loss(weights, encoded(name, weights, identity(COLUMNS))[1], statistics)
    assert with_feedback < 0.6 * without


def test_scales_that_are_fitted_again_lower_the_loss_of_the_rows() -> None:
    weights, statistics = weights_of(64, COLUMNS), statistics_of(correlated(COLUMNS))
    fitted, plain = (
        encoded("lt2", weights, statistics, options=LtOptions(refit=refit))[1] for refit in (True, False)
    )
    losses = [proxy_loss(weights, values, statistics) for values in (fitted, plain)]
    assert losses[0] < losses[1]


def test_a_hessian_in_blocks_is_worth_less_than_a_full_one_and_more_than_none() -> None:
    x = correlated(256)
    weights, full = weights_of(64, 256), statistics_of(x)
    losses = [
        proxy_loss(weights, encoded("lt3", weights, statistics)[1], full)
        for statistics in (full, statistics_of(x, 128), identity(256))
    ]
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("name", LT_FORMATS)
def test_bytes_depend_on_neither_threads_nor_rows_nor_instruction_set(name: str) -> None:
    weights, statistics = weights_of(330, COLUMNS), statistics_of(correlated(COLUMNS))
    whole, _ = encoded(name, weights, statistics)
    assert len(whole) == 6
    assert np.array_equal(encoded(name, weights, statistics, threads=3)[0], whole)
    tail = np.ascontiguousarray(weights[2 * STRIP_ROWS :])
    assert np.array_equal(encoded(name, tail, statistics)[0], whole[2:])
    for isa in available_isas():
        if isa != "scalar":
            assert np.array_equal(encoded(name, weights, statistics, isa=isa)[0], whole)
    assert np.array_equal(
        encoded(name, weights[:64], statistics, isa="scalar", state_bits=4)[0],
        encoded(name, weights[:64], statistics, state_bits=4)[0],
    )


def test_rows_of_zeros_stay_zeros() -> None:
    weights, statistics = weights_of(20, COLUMNS), statistics_of(correlated(COLUMNS))
    weights[3:7] = 0
    _, values = encoded("lt2", weights, statistics)
    assert not values[3:7].any()
    assert values[8].any()


@pytest.mark.parametrize("wrong", [np.nan, 1e9])
def test_weights_that_no_scale_can_hold_are_refused(wrong: float) -> None:
    weights = weights_of(20, COLUMNS)
    weights[4, 7] = wrong
    with pytest.raises(CannotEncode, match="no scale in fp16 can hold"):
        encoded("lt2", weights, statistics_of(correlated(COLUMNS)))


def test_experts_share_an_input_and_have_a_hessian_each() -> None:
    one, other = statistics_of(correlated(128)), statistics_of(correlated(128, seed=5))
    assert one.gram is not None
    assert other.gram is not None
    both = InputStatistics(
        np.array([600, 600]),
        np.concatenate((one.mean_square, other.mean_square)),
        np.concatenate((one.gram, other.gram)),
    )
    fmt, table, weights = LT_FORMATS["lt2"], TABLES[2, 6], weights_of(64, 128)
    given = choose_input(both, seed=1)
    losses = {}
    for expert in (0, 1):
        factors = tuple(word_factors(fmt, both, given, expert=expert))
        values = decode(fmt, table, encode(fmt, table, weights, given, factors), given, 64)
        losses[expert] = [proxy_loss(weights, values, both, expert=judge) for judge in (0, 1)]
    assert losses[0][0] < losses[1][0]
    assert losses[1][1] < losses[0][1]
    assert isinstance(given, LtInput)
