"""The scale search of every instruction set against the same search in NumPy, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.encoders.reference import nearest_reference
from quant.formats.format import F32, Blocks, Format
from quant.formats.registry import FORMATS
from runtime.kernels import available_isas
from runtime.kernels.scale_search import Fitted, FormatShape, fit
from tests.quant.random_blocks import same_blocks

by_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)


def shape_of(fmt: Format) -> FormatShape:
    return FormatShape(fmt.block, fmt.group, fmt.levels, fmt.affine, fmt.scale_range, fmt.minima_high)


def blocks(found: Fitted) -> Blocks:
    return Blocks(found.codes, found.scale, found.minimum, found.scales, found.minima)


def hard_weights(columns: int) -> F32:
    """Rows that are ordinary, and each kind that is not."""
    rng = np.random.default_rng(columns)
    rows = rng.standard_t(3, size=(19, columns)).astype(np.float32) * np.float32(0.02)
    rows[1] = 0.0
    rows[2] = 0.25
    rows[3, ::3] = 0.0
    rows[4] = np.abs(rows[4]) + np.float32(0.1)
    rows[5] = -np.abs(rows[5])
    rows[6] *= np.float32(1e-5)  # scales are subnormal
    rows[7] *= np.float32(1e-9)  # and below the smallest
    rows[8] *= np.float32(1e-30)  # squares underflow
    rows[9] = rng.choice(np.array([-65504.0, 65504.0], dtype=np.float32), columns)
    rows[10, ::37] *= np.float32(1000)
    rows[11] = np.round(rows[11] * 200) / np.float32(256)
    rows[12, : columns // 2] = 0.0
    rows[13] = -0.0
    rows[14, 1:] = 0.0
    return rows


def importances(columns: int) -> dict[str, F32]:
    rng = np.random.default_rng(columns + 1)
    spread = np.exp(2 * rng.standard_normal(columns)).astype(np.float32)
    gaps = spread.copy()
    gaps[rng.random(columns) < 0.4] = 0.0
    gaps[: columns // 2] = 0.0
    return {"ones": np.ones(columns, np.float32), "spread": spread, "gaps": gaps, "none": 0 * spread}


@by_format
@pytest.mark.parametrize("kind", ["ones", "spread", "gaps", "none"])
def test_every_instruction_set_finds_what_the_reference_finds(fmt: Format, kind: str) -> None:
    columns = 2 * max(fmt.block, 64)
    weights, importance = hard_weights(columns), importances(columns)[kind]
    wanted = nearest_reference(fmt, weights, importance)
    for isa in available_isas():
        assert same_blocks(blocks(fit(shape_of(fmt), weights, importance, isa=isa)), wanted), isa


@by_format
def test_one_code_that_differs_is_noticed(fmt: Format) -> None:
    weights, importance = hard_weights(fmt.block), np.ones(fmt.block, np.float32)
    found = blocks(fit(shape_of(fmt), weights, importance))
    codes = found.codes.copy()
    codes[-1, -1] ^= 1
    assert not same_blocks(replace(found, codes=codes), nearest_reference(fmt, weights, importance))


@by_format
@pytest.mark.parametrize("rows", [1, 2, 15, 16, 17, 33])
def test_rows_do_not_influence_each_other(fmt: Format, rows: int) -> None:
    weights = np.random.default_rng(rows).laplace(size=(rows, fmt.block)).astype(np.float32)
    importance = np.arange(fmt.block, dtype=np.float32)
    for isa in available_isas()[:2]:
        together = blocks(fit(shape_of(fmt), weights, importance, isa=isa))
        for row in {0, rows // 2, rows - 1}:
            alone = blocks(fit(shape_of(fmt), weights[row : row + 1].copy(), importance, isa=isa))
            assert alone.codes.tobytes() == together.codes[row : row + 1].tobytes()
            assert alone.scale.tobytes() == together.scale[row : row + 1].tobytes()


@by_format
def test_memory_may_begin_anywhere(fmt: Format) -> None:
    columns = 2 * fmt.block
    weights, importance = hard_weights(columns), importances(columns)["spread"]
    wanted = blocks(fit(shape_of(fmt), weights, importance))
    for offset in (1, 3, 15):
        memory: NDArray[np.float32] = np.empty(weights.size + columns + 16, np.float32)
        shifted = memory[offset : offset + weights.size].reshape(weights.shape)
        factors = memory[offset + weights.size :][:columns]
        shifted[:], factors[:] = weights, importance
        assert same_blocks(blocks(fit(shape_of(fmt), shifted, factors)), wanted)


@by_format
def test_integers_stay_within_the_formats_ranges(fmt: Format) -> None:
    columns = 4 * fmt.block
    found = fit(shape_of(fmt), hard_weights(columns), importances(columns)["gaps"])
    assert found.codes.max() < len(fmt.levels)
    assert np.isfinite(found.scale).all()
    assert found.minimum is None or np.isfinite(found.minimum).all()
    if fmt.scale_range is not None and found.scales is not None:
        assert fmt.scale_range[0] <= found.scales.min() <= found.scales.max() <= fmt.scale_range[1]
    if fmt.minima_high is not None and found.minima is not None:
        assert found.minima.max() <= fmt.minima_high


@pytest.mark.parametrize(
    "grid",
    [
        FormatShape(block=512, group=32, levels=range(16)),
        FormatShape(block=256, group=8, levels=range(16), scale_range=(0, 15)),
        FormatShape(block=256, group=48, levels=range(16), scale_range=(0, 15)),
        FormatShape(block=32, group=16, levels=range(16)),
        FormatShape(block=32, group=32, levels=(0,)),
        FormatShape(block=32, group=32, levels=(-3, 0, 7), affine=True),
        FormatShape(block=256, group=32, levels=range(16), affine=True, scale_range=(0, 63)),
    ],
    ids=str,
)
def test_a_format_without_a_search_is_refused(grid: FormatShape) -> None:
    with pytest.raises(ValueError, match="no search for a format"):
        fit(grid, np.zeros((1, 512), np.float32), np.ones(512, np.float32))


def test_shapes_types_and_layouts_are_checked() -> None:
    grid = FormatShape(block=32, group=32, levels=range(-8, 8))
    ones = np.ones(64, np.float32)
    for weights in (
        np.zeros((2, 64), np.float64),
        np.zeros(64, np.float32),
        np.zeros((2, 128), np.float32)[:, ::2],
    ):
        with pytest.raises(ValueError, match="must be contiguous float32 rows"):
            fit(grid, weights, ones)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not blocks of 32"):
        fit(grid, np.zeros((2, 48), np.float32), ones[:48])
    for importance in (ones[:32], ones.astype(np.float64), np.ones(128, np.float32)[::2]):
        with pytest.raises(ValueError, match="weights have 64 columns"):
            fit(grid, np.zeros((2, 64), np.float32), importance)  # type: ignore[arg-type]


def test_no_rows_are_no_blocks() -> None:
    found = fit(FormatShape(32, 32, range(-8, 8)), np.zeros((0, 64), np.float32), np.ones(64, np.float32))
    assert found.codes.shape == (0, 32)
