"""Inputs under static scales: every instruction set against NumPy, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.formats.format import Format
from runtime.kernels import available_isas
from runtime.kernels.products import Product, input_block, quantize_input
from tests.runtime.product_cases import exact_inputs, formats, make_case
from tests.runtime.test_kernels_products import depths_of, named, parts_of

F32 = NDArray[np.float32]
WEIGHTS = [32, 64, 128, 256]
"""Of a matrix's block: the first three share inputs."""


@pytest.fixture(params=available_isas())
def isa(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def some_values(depth: int, seed: int) -> F32:
    """Columns of very different sizes, and a column of zeros."""
    dice = np.random.default_rng(seed)
    values = dice.normal(0, 1, (5, depth)) * 10.0 ** dice.integers(-3, 3, (5, depth))
    values[4] = 0
    return values.astype(np.float32)


def some_scales(depth: int, weights: int, seed: int) -> F32:
    """Values of fp16, some far too small for the values and some far too large."""
    scales = np.exp(np.random.default_rng(seed).normal(-3, 3, depth // input_block(weights)))
    return scales.astype(np.float16).astype(np.float32)


def rounded(values: F32, scales: F32) -> F32:
    """[columns, blocks, block]: codes as NumPy makes them, each operation in float32."""
    pieces = values.reshape(len(values), len(scales), -1)
    with np.errstate(over="ignore"):
        scaled = pieces * (np.float32(1) / scales)[:, None]
    codes: F32 = np.rint(np.clip(scaled, -127, 127))
    return codes


def dequantized(inputs: NDArray[np.uint8], depth: int, block: int) -> F32:
    parts = parts_of(inputs, depth, block)
    values: F32 = (parts.codes * parts.scale).reshape(len(inputs), depth)
    return values


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("depth", [256, 768, 4096 + 256])
def test_codes_scales_and_lows_are_those_of_numpy(isa: str, weights: int, depth: int) -> None:
    block = input_block(weights)
    values, scales = some_values(depth, weights), some_scales(depth, weights, depth)
    got = parts_of(quantize_input(values, weights, isa, scales=scales), depth, block)
    wanted = rounded(values, scales)
    assert np.array_equal(got.codes, wanted)
    assert np.array_equal(got.scale, np.broadcast_to(scales[:, None], got.scale.shape))
    if block == 32:
        low = (scales * wanted.sum(axis=2)).astype(np.float16).astype(np.float32)
        assert np.array_equal(got.low[np.isfinite(low)], low[np.isfinite(low)])


@pytest.mark.parametrize("weights", WEIGHTS)
def test_all_instruction_sets_write_the_same_bytes(weights: int) -> None:
    values, scales = some_values(768, weights), some_scales(768, weights, 1)
    values[1, 3:700:97] = [1e-45, -0.0, 3e38, -3e38, 127.5, 1e-30, 0.5, 1.5]
    values[2, 5], values[3, 6] = np.nan, np.inf
    wanted = quantize_input(values, weights, "scalar", scales=scales)
    for isa in available_isas():
        assert quantize_input(values, weights, isa, scales=scales).tobytes() == wanted.tobytes(), isa


def test_values_beyond_127_steps_become_127(isa: str) -> None:
    values = np.array([[126.4, 126.6, 127.4, 127.6, 200, 3e38, -127.6, -3e38] * 4], np.float32)
    codes = parts_of(quantize_input(values, 32, isa, scales=np.ones(1, np.float32)), 32, 32).codes
    assert codes[0, 0, :8].tolist() == [126, 127, 127, 127, 127, 127, -127, -127]


def test_a_scale_that_is_off_is_noticed(isa: str) -> None:
    values, scales = some_values(768, 3), some_scales(768, 32, 3)
    scales[:] = np.float32(0.25)
    off = scales.copy()
    off[7] = np.nextafter(np.float16(0.25), np.float16(1)).astype(np.float32)
    got = parts_of(quantize_input(values, 32, isa, scales=scales), 768, 32)
    assert not np.array_equal(got.codes, rounded(values, off))
    assert not np.array_equal(got.scale[0, :, 0], off)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["q8_0", "q4_1", "q4_k"])
def test_an_input_that_is_not_finite_gives_no_finite_result(isa: str, name: str, bad: float) -> None:
    case = make_case(next(fmt for fmt in formats() if fmt.name == name), 16, 512, 2, seed=2)
    case.columns[1, 377] = bad
    scales = np.ones(512 // input_block(case.fmt.block), np.float32)
    inputs = quantize_input(case.columns, case.fmt.block, isa, scales=scales)
    got = Product(case.strips, inputs, isa).compute()
    assert np.isfinite(got[0]).all()
    assert not np.isfinite(got[1]).any()


@pytest.mark.parametrize("fmt", formats(), ids=named)
def test_products_are_those_of_the_reference_to_the_bit(fmt: Format) -> None:
    depth = depths_of(fmt)[-1]
    case = make_case(fmt, 33, depth, 3, seed=4)
    scales = some_scales(depth, fmt.block, 5)
    inputs = quantize_input(case.columns, fmt.block, "scalar", scales=scales)
    wanted = Product(case.strips, inputs, "scalar").compute()
    for isa in available_isas():
        got = Product(case.strips, quantize_input(case.columns, fmt.block, isa, scales=scales), isa)
        assert got.compute().tobytes() == wanted.tobytes(), isa


@pytest.mark.parametrize("weights", [32, 256])
def test_scales_of_each_block_s_largest_value_round_as_dynamic_ones(isa: str, weights: int) -> None:
    block = input_block(weights)
    values = some_values(768, 9)[:1]
    own = exact_inputs(values, block).scale.reshape(-1)
    static, dynamic = (
        dequantized(quantize_input(values, weights, isa, scales=scales), 768, block) for scales in (own, None)
    )
    step = own.repeat(block)
    assert (np.abs(static - dynamic) <= 1.001 * step).all()


@pytest.mark.parametrize(
    "scales", [np.ones(2, np.float32), np.ones(3, np.float64), np.ones((3, 1), np.float32)]
)
def test_scales_of_another_shape_are_told(scales: F32) -> None:
    with pytest.raises(ValueError, match=r"it must be float32 \[3\]"):
        quantize_input(np.ones((1, 96), np.float32), 32, scales=scales)
