"""Error feedback on every format: what it gains, and that it always gives the same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quant.calibration.statistics import InputStatistics
from quant.encoders.feedback import FeedbackOptions, feedback
from quant.encoders.hessian import factors, proxy_loss
from quant.encoders.nearest import nearest
from quant.errors import CannotEncode
from quant.formats.dequantize import values
from quant.formats.format import Blocks, Format
from quant.formats.registry import BY_NAME, FORMATS
from runtime.kernels import available_isas
from tests.quant.correlated import F32, correlated, statistics_of, weights_of
from tests.quant.random_blocks import same_blocks

FROZEN = FeedbackOptions(order="importance", refit=False, sweeps=0)
REFITTED = FeedbackOptions(order="blocks", refit=True, sweeps=0)
REFINED = FeedbackOptions(order="blocks", refit=True, sweeps=2)
SWEPT = FeedbackOptions()
ALL_OPTIONS = {"frozen": FROZEN, "refitted": REFITTED, "refined": REFINED, "swept": SWEPT}
EVERY_FORMAT = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)


def loss(fmt: Format, blocks: Blocks, weights: F32, statistics: InputStatistics) -> float:
    return proxy_loss(weights, values(fmt, blocks).reshape(weights.shape), statistics)


@EVERY_FORMAT
def test_each_step_of_feedback_lowers_the_loss_of_a_correlated_input(fmt: Format) -> None:
    weights, statistics = weights_of(96, 512), statistics_of(correlated(512))
    plain = nearest(fmt, weights, statistics.mean_square[0])
    frozen, refitted, refined, swept = (
        loss(fmt, feedback(fmt, weights, statistics, options=options), weights, statistics)
        for options in (FROZEN, REFITTED, REFINED, SWEPT)
    )
    before = loss(fmt, plain, weights, statistics)
    assert frozen < 0.8 * before
    assert refitted < 0.8 * before
    assert refined < 0.98 * refitted
    assert swept < frozen


@EVERY_FORMAT
def test_what_comes_out_is_stored_without_a_change(fmt: Format) -> None:
    weights, statistics = weights_of(40, 512), statistics_of(correlated(512))
    blocks = feedback(fmt, weights, statistics)
    assert same_blocks(fmt.unpack(fmt.pack(blocks)), blocks)


@EVERY_FORMAT
def test_inputs_without_correlation_get_the_nearest_codes(fmt: Format) -> None:
    weights = weights_of(70, 512)
    identity = np.eye(512, dtype=np.float32)
    statistics = InputStatistics(np.array([9]), np.ones((1, 512), dtype=np.float32), identity[None, None])
    plain = nearest(fmt, weights)
    fed_back = feedback(fmt, weights, statistics, blocks=plain, options=FROZEN)
    assert same_blocks(fed_back, plain)
    changed = weights.copy()
    changed[5, np.abs(weights[5]).argmax()] *= -1
    assert not same_blocks(feedback(fmt, changed, statistics, blocks=plain, options=FROZEN), plain)


@EVERY_FORMAT
def test_feedback_keeps_a_frozen_grid(fmt: Format) -> None:
    weights, statistics = weights_of(40, 512), statistics_of(correlated(512))
    plain = nearest(fmt, weights, statistics.mean_square[0])
    fed_back = feedback(fmt, weights, statistics, blocks=plain, options=FROZEN)
    assert not np.array_equal(fed_back.codes, plain.codes)
    assert same_blocks(replace(fed_back, codes=plain.codes), plain)


@pytest.mark.parametrize("options", ALL_OPTIONS.values(), ids=ALL_OPTIONS)
@pytest.mark.parametrize("name", ["q4_k", "q3_k", "iq4_nl", "q4_1", "q2_0"])
def test_bits_depend_on_neither_rows_threads_nor_instruction_set(name: str, options: FeedbackOptions) -> None:
    fmt = BY_NAME[name]
    weights, statistics = weights_of(300, 256), statistics_of(correlated(256))
    whole = feedback(fmt, weights, statistics, options=options)
    assert same_blocks(feedback(fmt, weights, statistics, options=options, threads=3), whole)
    for isa in available_isas():
        some = feedback(fmt, weights[200:271].copy(), statistics, options=options, isa=isa)
        here = slice(200 * (256 // fmt.block), 271 * (256 // fmt.block))
        assert np.array_equal(some.codes, whole.codes[here]), isa
        assert np.array_equal(some.scale, whole.scale[here]), isa


@pytest.mark.parametrize("options", ALL_OPTIONS.values(), ids=ALL_OPTIONS)
@pytest.mark.parametrize("name", ["q4_k", "q4_0"])
def test_blocks_of_a_hessian_are_problems_of_their_own(name: str, options: FeedbackOptions) -> None:
    fmt, x, weights = BY_NAME[name], correlated(768), weights_of(70, 768)
    together = feedback(fmt, weights, statistics_of(x, 256), options=options)
    codes = together.codes.reshape(70, 768)
    for first in (0, 256, 512):
        here = slice(first, first + 256)
        statistics = statistics_of(np.ascontiguousarray(x[:, here]))
        alone = feedback(fmt, np.ascontiguousarray(weights[:, here]), statistics, options=options)
        assert np.array_equal(alone.codes.reshape(70, 256), codes[:, here])


@pytest.mark.parametrize("options", ALL_OPTIONS.values(), ids=ALL_OPTIONS)
def test_factors_can_be_prepared_once_for_matrices_with_the_same_input(options: FeedbackOptions) -> None:
    fmt, statistics = BY_NAME["q5_k"], statistics_of(correlated(512))
    prepared = list(factors(statistics, damping=options.damping, order=options.order, block=fmt.block))
    for seed in (1, 2):
        weights = weights_of(20, 512, seed)
        with_them = feedback(fmt, weights, statistics, options=options, prepared=prepared)
        assert same_blocks(with_them, feedback(fmt, weights, statistics, options=options))


@pytest.mark.parametrize("options", ALL_OPTIONS.values(), ids=ALL_OPTIONS)
def test_columns_without_input_get_codes_near_their_weights(options: FeedbackOptions) -> None:
    x, weights, fmt = correlated(512), weights_of(30, 512), BY_NAME["q6_k"]
    x[:, 100:140] = 0
    x[:, 256:512] = 0
    statistics = statistics_of(x)
    blocks = nearest(fmt, weights)
    found = values(fmt, feedback(fmt, weights, statistics, blocks=blocks, options=options))
    error = np.abs(found.reshape(weights.shape) - weights)
    if options == FROZEN:  # refinement moves the scale that a block's columns share
        plain = np.abs(values(fmt, blocks).reshape(weights.shape) - weights)
        assert np.array_equal(error[:, 100:140], plain[:, 100:140])
    assert error[:, 256:].max() < 0.05 * np.abs(weights).max()


@pytest.mark.parametrize("size", [1e-20, 1e-21, 1e-22])
def test_columns_whose_squares_are_below_any_normal_float_keep_their_weights(size: float) -> None:
    x, weights, fmt = correlated(512), weights_of(30, 512), BY_NAME["q4_0"]
    for first in (256, 0):
        x[:, first:] *= size
        found = values(fmt, feedback(fmt, weights, statistics_of(x))).reshape(weights.shape)
        lost = ((found - weights)[:, first:] ** 2).sum() / (weights[:, first:] ** 2).sum()
        assert lost < 0.02


def test_an_expert_is_encoded_with_its_own_hessian() -> None:
    fmt, weights = BY_NAME["q4_0"], weights_of(20, 128)
    parts = [statistics_of(correlated(128, seed=seed)) for seed in (1, 2)]
    both = InputStatistics(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.mean_square for part in parts]),
        np.concatenate([part.gram for part in parts if part.gram is not None]),
    )
    found = [feedback(fmt, weights, both, expert=expert) for expert in (0, 1)]
    for expert in (0, 1):
        assert same_blocks(found[expert], feedback(fmt, weights, parts[expert]))
    assert not same_blocks(*found)


def test_one_changed_code_raises_the_refined_loss() -> None:
    fmt, weights, statistics = BY_NAME["q4_k"], weights_of(8, 256), statistics_of(correlated(256))
    options = FeedbackOptions(sweeps=200, damping=1e-4)
    blocks = feedback(fmt, weights, statistics, options=options)
    least = loss(fmt, blocks, weights, statistics)
    rng = np.random.default_rng(0)
    for _ in range(50):
        changed = blocks.codes.copy()
        row, column = rng.integers(8), rng.integers(256)
        changed[row, column] = changed[row, column] - 1 if changed[row, column] else 1
        assert loss(fmt, replace(blocks, codes=changed), weights, statistics) > least


def test_shapes_that_do_not_fit_are_told_with_all_numbers() -> None:
    fmt, statistics = BY_NAME["q4_k"], statistics_of(correlated(512))
    with pytest.raises(CannotEncode, match="a row has 256 weights, a block 256, the statistics 512 columns"):
        feedback(fmt, weights_of(4, 256), statistics)
    with pytest.raises(CannotEncode, match="a block of the Hessian has 128 columns, one of the format 256"):
        feedback(fmt, weights_of(4, 512), statistics_of(correlated(512), 128))
    with pytest.raises(CannotEncode, match="rows of float32"):
        feedback(fmt, weights_of(4, 512).astype(np.float64), statistics)
    with pytest.raises(CannotEncode, match="mixes blocks"):
        feedback(fmt, weights_of(4, 512), statistics, options=FeedbackOptions(refit=True))
    bare = InputStatistics(np.array([5]), np.ones((1, 512), dtype=np.float32))
    with pytest.raises(CannotEncode, match="kept no Hessian"):
        feedback(fmt, weights_of(4, 512), bare)


def test_weights_that_are_no_numbers_are_refused() -> None:
    weights = weights_of(4, 512)
    weights[2, 3] = np.nan
    for options in (REFINED, FROZEN):
        with pytest.raises(CannotEncode, match="not finite"):
            feedback(BY_NAME["q4_k"], weights, statistics_of(correlated(512)), options=options)
