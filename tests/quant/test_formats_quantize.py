"""The plain quantizer: nearest codes, and a scale that minimises the weighted error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quant.formats.dequantize import dequantize, values
from quant.formats.format import Format
from quant.formats.quantize import assemble, nearest_codes, quantize
from quant.formats.registry import BY_NAME, FORMATS

every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)


def gaussian(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def weighted_error(
    fmt: Format, data: NDArray[np.uint8], weights: NDArray[np.float32], factors: NDArray[np.float32]
) -> float:
    return float((factors * (dequantize(fmt, data) - weights).astype(np.float64) ** 2).sum())


@every_format
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([0.03, -0.4, 7.5]))
def test_no_other_code_is_nearer(fmt: Format, seed: int, scale: float) -> None:
    weights = gaussian(3, fmt.group, seed)
    scales = np.full(3, scale, np.float32)
    minima = np.array([0, 0.7, 2], np.float32) if fmt.affine else None
    codes = nearest_codes(fmt, weights, scales, minima)
    offset = np.zeros(3) if minima is None else minima.astype(np.float64)
    grid = np.float64(scales[0]) * np.array(fmt.levels) - offset[:, None]
    distances = np.abs(weights[:, :, None] - grid[:, None, :])
    chosen = np.take_along_axis(distances, codes[:, :, None].astype(np.int64), axis=2)[:, :, 0]
    assert (chosen <= distances.min(axis=2) + 1e-6 * abs(scale) * len(fmt.levels)).all()


@every_format
def test_without_a_scale_codes_stand_for_the_level_nearest_to_zero(fmt: Format) -> None:
    codes = nearest_codes(fmt, gaussian(2, fmt.group), np.zeros(2, np.float32))
    assert set(np.abs(np.array(fmt.levels)[codes]).ravel()) == {min(map(abs, fmt.levels))}


@every_format
def test_rows_of_zeros_stay_zero(fmt: Format) -> None:
    data = quantize(fmt, np.zeros((2, fmt.block), np.float32))
    assert data.shape == (2, fmt.block_bytes)
    assert not dequantize(fmt, data).any()


@every_format
def test_weights_that_lie_on_a_grid_come_back(fmt: Format) -> None:
    rng = np.random.default_rng(4)
    codes = rng.integers(0, len(fmt.levels), (4, 2 * fmt.block))
    codes[:, :: fmt.group] = len(fmt.levels) - 1  # every group reaches both ends of the grid
    codes[:, 1 :: fmt.group] = 0
    weights = (np.array(fmt.levels)[codes] * 0.25).astype(np.float32)
    back = dequantize(fmt, quantize(fmt, weights))
    assert np.abs(back - weights).max() <= 2e-3 * np.abs(weights).max()


@every_format
def test_importance_shifts_the_error_away_from_columns_that_matter(fmt: Format) -> None:
    weights = gaussian(32, 512)
    factors = np.exp(1.5 * gaussian(1, 512, 1)[0])
    plain = weighted_error(fmt, quantize(fmt, weights), weights, factors)
    weighted = weighted_error(fmt, quantize(fmt, weights, factors), weights, factors)
    assert weighted < 0.995 * plain


@every_format
def test_one_wrong_code_is_more_than_the_search_leaves(fmt: Format) -> None:
    weights = gaussian(1, fmt.block)
    data = quantize(fmt, weights)
    ones = np.ones(fmt.block, np.float32)
    blocks = fmt.unpack(data.reshape(-1, fmt.block_bytes))
    worse = 0
    for place in range(fmt.block):
        for step in (1, len(fmt.levels) - 1):
            codes = blocks.codes.copy()
            codes[0, place] = (int(codes[0, place]) + step) % len(fmt.levels)
            blocks.codes[0, place], keep = codes[0, place], blocks.codes[0, place]
            worse += weighted_error(fmt, fmt.pack(blocks), weights, ones) > weighted_error(
                fmt, data, weights, ones
            )
            blocks.codes[0, place] = keep
    assert worse == 2 * fmt.block


@every_format
def test_assembled_scales_are_within_the_formats_ranges(fmt: Format) -> None:
    weights = 30000 * gaussian(8, fmt.block)
    blocks = fmt.unpack(quantize(fmt, weights).reshape(-1, fmt.block_bytes))
    assert np.isfinite(values(fmt, blocks)).all()
    scales = np.random.default_rng(2).uniform(0, 1e6, 2 * fmt.groups).astype(np.float32)
    beyond = assemble(fmt, weights[:2].reshape(-1, fmt.group), scales, scales if fmt.affine else None)
    assert np.isfinite(beyond.scale).all()
    if fmt.scale_range and beyond.scales is not None:
        assert fmt.scale_range[0] <= beyond.scales.min() <= beyond.scales.max() <= fmt.scale_range[1]
    if fmt.minima_high and beyond.minima is not None:
        assert beyond.minima.max() <= fmt.minima_high


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    weights = gaussian(2, 32)
    weights[1, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantize(BY_NAME["q8_0"], weights)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 256 weights, not 576"):
        quantize(BY_NAME["q4_k"], gaussian(2, 576))
