"""Round to nearest: near the best that a format allows, not behind ggml, the same however it is run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.encoders.nearest import nearest
from quant.errors import CannotEncode
from quant.formats.dequantize import dequantize, values
from quant.formats.format import F32, Blocks, Format
from quant.formats.registry import BY_NAME, FORMATS
from tests.quant.ggml_quantize import ggml_error, ggml_quantize, weighted_error
from tests.quant.random_blocks import same_blocks

by_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)

FINITE_HALVES: F32 = (
    np.concatenate([np.arange(0x7C00), np.arange(0x8001, 0xFC00)]).astype(np.uint16).view(np.float16)
).astype(np.float32)


def draw(kind: str, rows: int, columns: int, seed: int = 0) -> F32:
    rng = np.random.default_rng([seed, columns])
    size = (rows, columns)
    if kind == "gauss":
        drawn = rng.standard_normal(size)
    else:
        drawn = rng.laplace(size=size) if kind == "laplace" else rng.standard_t(4, size)
    return np.asarray(drawn * 0.03, dtype=np.float32)


def spread(columns: int, sigma: float = 1.0) -> F32:
    return np.exp(sigma * np.random.default_rng(columns).standard_normal(columns)).astype(np.float32)


def error(fmt: Format, weights: F32, importance: F32, blocks: Blocks) -> float:
    return weighted_error(weights, values(fmt, blocks), importance)


def least_error_of_any_scale(fmt: Format, weights: F32, importance: F32) -> float:
    """The least weighted squared error of one block, over every finite fp16 scale and every code."""
    levels = np.array(fmt.levels, dtype=np.float64)
    least = np.inf
    for scales in np.array_split(FINITE_HALVES[FINITE_HALVES != 0].astype(np.float64), 64):
        level = levels[np.abs(weights / scales[:, None, None] - levels[:, None]).argmin(axis=1)]
        left = weights - scales[:, None] * level
        least = min(least, float((importance * left**2).sum(axis=1).min()))
    return least


# --- near the best -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["q1_0", "tq2_0", "q2_0", "q4_0", "iq4_nl", "q5_0"])
def test_no_scale_is_much_better_than_the_one_found(name: str) -> None:
    fmt = BY_NAME[name]
    weights, importance = draw("t", 1, 3 * 256)[:, : 3 * fmt.block], spread(3 * 256)[: 3 * fmt.block]
    blocks = nearest(fmt, weights, importance)
    found = values(fmt, blocks)
    for block, factors, its in zip(
        weights.reshape(-1, fmt.block), importance.reshape(-1, fmt.block), found, strict=True
    ):
        got = float((factors.astype(np.float64) * (block - its) ** 2).sum())
        assert got <= 1.02 * least_error_of_any_scale(fmt, block, factors.astype(np.float64))


def test_a_scale_a_few_percent_off_would_be_noticed() -> None:
    fmt = BY_NAME["q4_0"]
    weights, importance = draw("t", 1, fmt.block), spread(fmt.block)
    blocks = nearest(fmt, weights, importance)
    off = replace(blocks, scale=blocks.scale * np.float16(1.06))
    left = importance.astype(np.float64) * (weights - values(fmt, off)) ** 2
    assert left.sum() > 1.02 * least_error_of_any_scale(fmt, weights[0], importance.astype(np.float64))


@pytest.mark.parametrize("name", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_the_grid_of_weights_that_were_rounded_before_is_found_again(name: str) -> None:
    fmt, alike = BY_NAME[name], np.ones(1024, np.float32)
    rounded = dequantize(fmt, ggml_quantize(fmt, draw("gauss", 64, 1024), alike)).reshape(64, 1024)
    stored: F32 = rounded.astype(np.float16).astype(np.float32)
    assert error(fmt, stored, alike, nearest(fmt, stored)) < 1e-6


@pytest.mark.parametrize(
    ("name", "most"), [("tq1_0", 0.1911), ("tq2_0", 0.1911), ("q2_0", 0.1245), ("q1_0", 0.364)]
)
def test_few_levels_reach_the_optimum_of_their_grid_on_a_gaussian(name: str, most: float) -> None:
    fmt = BY_NAME[name]
    weights, importance = draw("gauss", 64, 4096), np.ones(4096, np.float32)
    assert error(fmt, weights, importance, nearest(fmt, weights)) < most


@by_format
@pytest.mark.parametrize("kind", ["gauss", "laplace", "t"])
def test_the_error_is_never_above_that_of_ggml(fmt: Format, kind: str) -> None:
    for importance in (np.ones(1024, np.float32), spread(1024), spread(1024, 2.5)):
        weights = draw(kind, 16, 1024)
        got = error(fmt, weights, importance, nearest(fmt, weights, importance))
        its = ggml_error(fmt, weights, importance)
        assert got <= its * (1 if fmt.name != "q1_0" else 1.00001), f"{got / its:.4f} of ggml's"


CLEARLY = {
    "q2_k": 0.90, "q3_k": 0.97, "q4_k": 0.93, "q5_k": 0.86, "q6_k": 0.92,
    "iq4_xs": 0.94, "iq4_nl": 0.95, "q4_1": 0.95, "q5_1": 0.94, "q8_0": 0.85,
}  # fmt: skip


@pytest.mark.parametrize(("name", "most"), CLEARLY.items(), ids=CLEARLY)
def test_the_error_is_clearly_below_that_of_ggml(name: str, most: float) -> None:
    fmt, weights, importance = BY_NAME[name], draw("laplace", 64, 1024), spread(1024)
    got = error(fmt, weights, importance, nearest(fmt, weights, importance))
    assert got <= most * ggml_error(fmt, weights, importance)


@pytest.mark.parametrize("fmt", [f for f in FORMATS if 2 < len(f.levels) < 256], ids=lambda fmt: fmt.name)
def test_an_outlier_that_does_not_matter_does_not_spoil_the_rest(fmt: Format) -> None:
    weights, importance = draw("gauss", 16, 512), np.ones(512, np.float32)
    plain = error(fmt, weights, importance, nearest(fmt, weights, importance))
    weights[:, 5] *= 30
    importance[5] = 0
    blocks = nearest(fmt, weights, importance)
    spoilt = error(fmt, weights, importance, nearest(fmt, weights))
    assert error(fmt, weights, importance, blocks) < min(1.8 * plain, 0.9 * spoilt)


@by_format
def test_a_changed_code_raises_the_error(fmt: Format) -> None:
    weights, importance = draw("gauss", 1, fmt.block), spread(fmt.block)
    blocks = nearest(fmt, weights, importance)
    least = error(fmt, weights, importance, blocks)
    for column in range(0, fmt.block, 13):
        codes = blocks.codes.copy()
        codes[0, column] = 1 if codes[0, column] == 0 else codes[0, column] - 1
        assert error(fmt, weights, importance, replace(blocks, codes=codes)) > least


# --- the same however it is run ----------------------------------------------------------------------------


@by_format
def test_threads_and_splits_change_no_bit(fmt: Format) -> None:
    weights, importance = draw("t", 67, 512), spread(512)
    whole = nearest(fmt, weights, importance)
    for step in (1, 5, 16, 40):
        with ThreadPoolExecutor(4) as pool:
            parts = list(
                pool.map(lambda i: nearest(fmt, weights[i : i + step], importance), range(0, 67, step))  # noqa: B023
            )

        def joined(name: str, parts: list[Blocks] = parts) -> NDArray[np.generic] | None:
            fields = [getattr(part, name) for part in parts]
            return None if fields[0] is None else np.concatenate(fields)

        fields = {name: joined(name) for name in ("codes", "scale", "minimum", "scales", "minima")}
        assert same_blocks(Blocks(**fields), whole)  # type: ignore[arg-type]


@by_format
def test_only_ratios_of_importance_count(fmt: Format) -> None:
    weights, importance = draw("t", 16, 512), spread(512)
    wanted = nearest(fmt, weights, importance)
    for factor in (2.0**-120, 2.0**-100, 2.0**-40, 2.0**7, 2.0**110):
        assert same_blocks(nearest(fmt, weights, importance * np.float32(factor)), wanted)
    ones = nearest(fmt, weights)
    for same in (0.0, 2.0**-149, 2.0**-130, 2.0**-126, 2.0**-100, 1.0):
        assert same_blocks(nearest(fmt, weights, np.full(512, same, np.float32)), ones)


@by_format
def test_scales_follow_the_weights(fmt: Format) -> None:
    weights, importance = draw("laplace", 16, 512) * np.float32(100), spread(512)
    wanted, larger = nearest(fmt, weights, importance), nearest(fmt, weights * np.float32(4), importance)
    assert np.array_equal(larger.codes, wanted.codes)
    assert np.array_equal(larger.scale, wanted.scale * np.float16(4))


@by_format
def test_packing_keeps_the_values(fmt: Format) -> None:
    weights = draw("t", 16, 512)
    blocks = nearest(fmt, weights)
    assert np.array_equal(dequantize(fmt, fmt.pack(blocks)), values(fmt, blocks))


# --- degenerate weights ------------------------------------------------------------------------------------


@by_format
def test_zeros_become_zeros(fmt: Format) -> None:
    assert not values(fmt, nearest(fmt, np.zeros((3, 512), np.float32), spread(512))).any()


@by_format
@pytest.mark.parametrize("constant", [0.5, -0.5, 65504.0, -65504.0, 6e-8])
def test_a_constant_is_kept(fmt: Format, constant: float) -> None:
    found = values(fmt, nearest(fmt, np.full((2, 512), constant, np.float32)))
    assert np.abs(found - np.float32(constant)).max() <= max(abs(constant) * 2**-9, 1.01 * 2.0**-24)


@by_format
def test_weights_of_half_the_smallest_scale_take_the_smallest_or_zero(fmt: Format) -> None:
    weights = draw("gauss", 16, 512) * np.float32(1e-6)
    found = values(fmt, nearest(fmt, weights)).reshape(weights.shape)
    assert np.abs(found).max() < 2.0**-20
    most = 0.5 if 0 in fmt.levels else 1.0  # others cannot hold a step of either sign beside 0
    assert weighted_error(weights, found, np.ones(512, np.float32)) <= most


@by_format
def test_the_largest_weights_stay_finite(fmt: Format) -> None:
    weights = np.random.default_rng(0).uniform(-65504, 65504, (16, 512)).astype(np.float32)
    found = values(fmt, nearest(fmt, weights, spread(512)))
    assert np.isfinite(found).all()
    assert weighted_error(weights, found, np.ones(512, np.float32)) < 0.5


@by_format
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 65505.0, -1e30])
def test_weights_that_no_fp16_scale_holds_are_refused(fmt: Format, bad: float) -> None:
    weights = draw("gauss", 3, 512)
    weights[1, 77] = bad
    with pytest.raises(CannotEncode, match="not finite or exceed 65504"):
        nearest(fmt, weights)


def test_columns_and_importances_that_do_not_fit_are_refused() -> None:
    weights = draw("gauss", 3, 512)
    with pytest.raises(CannotEncode, match="rows of 288 weights are not whole blocks of q4_k"):
        nearest(BY_NAME["q4_k"], weights[:, :288])
    with pytest.raises(CannotEncode, match=r"importance has shape \(256,\); the weights have 512 columns"):
        nearest(BY_NAME["q4_k"], weights, np.ones(256, np.float32))
    for bad in (-1.0, np.nan, np.inf):
        importance = np.ones(512, np.float32)
        importance[9] = bad
        with pytest.raises(CannotEncode, match="calibrate again"):
            nearest(BY_NAME["q4_k"], weights, importance)
