"""Products with matrices in strips: every format and instruction set against float64 and each other."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.formats.format import Format
from runtime.errors import KernelError
from runtime.kernels import available_isas
from runtime.kernels.products import (
    Product,
    aligned,
    multiply,
    pack_strips,
    quantize_input,
    strip_layout,
    unpack_row,
)
from tests.quant.random_blocks import random_bytes
from tests.runtime import ggml_inputs
from tests.runtime.product_cases import (
    Case,
    Inputs,
    exact_inputs,
    exact_product,
    formats,
    make_case,
    require_near,
)

REPOSITORY = Path(__file__).resolve().parents[2]

ROWS = [1, 7, 16, 97]
DEPTHS = [32, 64, 128, 256, 576, 640, 1536, 4096 + 64]
"""Each with the formats whose blocks divide it."""
COLUMNS = [1, 2, 3, 4, 8, 15, 16, 33]


def named(fmt: Format) -> str:
    return fmt.name


@pytest.fixture(params=formats(), ids=named)
def fmt(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param
    return found


@pytest.fixture(params=available_isas())
def isa(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def depths_of(fmt: Format) -> list[int]:
    return [depth for depth in DEPTHS if depth % fmt.block == 0]


def check(case: Case, isa: str) -> None:
    wanted, tolerance = exact_product(case)
    got = multiply(case.strips, case.columns, isa)
    require_near(got, wanted, tolerance)


@pytest.mark.parametrize("rows", ROWS)
def test_products_are_those_of_float64(fmt: Format, isa: str, rows: int) -> None:
    for depth in depths_of(fmt):
        check(make_case(fmt, rows, depth, 3, seed=rows + depth), isa)


def test_one_changed_code_is_noticed(fmt: Format, isa: str) -> None:
    case = make_case(fmt, 7, depths_of(fmt)[-1], 1, seed=3)
    check(case, isa)
    blocks = fmt.unpack(case.rows.reshape(-1, fmt.block_bytes))
    codes = blocks.codes.copy()
    # where a code counts most among the scales that a tolerance is made of
    block = int(np.argmax(np.abs(blocks.scale.astype(np.float32))))
    group = 0 if blocks.scales is None else int(np.argmax(np.abs(blocks.scales[block].astype(np.int32))))
    place = block % (case.columns.shape[1] // fmt.block) * fmt.block + group * fmt.group
    within = int(np.argmax(np.abs(case.columns[0, place : place + fmt.group]))) + group * fmt.group
    codes[block, within] = (int(codes[block, within]) + 1) % len(fmt.levels)
    changed = fmt.pack(dataclasses.replace(blocks, codes=codes)).reshape(case.rows.shape)
    with pytest.raises(AssertionError, match="1 of 7 are wrong"):
        check(dataclasses.replace(case, rows=changed), isa)


@pytest.mark.parametrize("columns", COLUMNS)
def test_all_instruction_sets_give_the_reference_s_bits_for_any_number_of_columns(
    fmt: Format, columns: int
) -> None:
    for rows, depth in ((33, depths_of(fmt)[0]), (7, depths_of(fmt)[-1])):
        case = make_case(fmt, rows, depth, columns, seed=columns)
        wanted = multiply(case.strips, case.columns, "scalar")
        for isa in available_isas():
            got = multiply(case.strips, case.columns, isa)
            assert got.tobytes() == wanted.tobytes(), (isa, rows, depth)


def test_a_column_s_results_do_not_depend_on_its_neighbours(fmt: Format, isa: str) -> None:
    case = make_case(fmt, 20, depths_of(fmt)[-1], 21, seed=5)
    together = multiply(case.strips, case.columns, isa)
    for column in (0, 7, 16, 20):
        alone = multiply(case.strips, case.columns[column : column + 1], isa)
        assert alone.tobytes() == together[column].tobytes()


def test_scales_that_are_zero_subnormal_infinite_or_nan_stay_in_their_rows(fmt: Format, isa: str) -> None:
    case = make_case(fmt, 97, depths_of(fmt)[-1], 2, seed=9, hard=True)
    wanted = multiply(case.strips, case.columns, "scalar")
    got = multiply(case.strips, case.columns, isa)
    assert np.array_equal(got, wanted, equal_nan=True)
    blocks = fmt.unpack(case.rows.reshape(-1, fmt.block_bytes))
    finite = np.isfinite(blocks.scale).reshape(97, -1).all(axis=1)
    if blocks.minimum is not None:
        finite &= np.isfinite(blocks.minimum).reshape(97, -1).all(axis=1)
    assert np.isfinite(got[:, finite]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite_gives_no_finite_result(isa: str, bad: float) -> None:
    case = make_case(next(f for f in formats() if f.name == "q4_0"), 16, 128, 2, seed=2)
    case.columns[1, 77] = bad
    got = multiply(case.strips, case.columns, isa)
    assert np.isfinite(got[0]).all()
    assert not np.isfinite(got[1]).any()


@pytest.mark.parametrize("offset", [1, 2, 31, 63])
def test_strips_may_begin_at_any_byte(fmt: Format, isa: str, offset: int) -> None:
    depth = depths_of(fmt)[0]
    at_line = make_case(fmt, 33, depth, 1, seed=4)
    elsewhere = make_case(fmt, 33, depth, 1, seed=4, offset=offset)
    assert elsewhere.strips.data.ctypes.data % 64 == offset
    got = multiply(elsewhere.strips, elsewhere.columns, isa)
    assert got.tobytes() == multiply(at_line.strips, at_line.columns, isa).tobytes()


def test_strips_that_are_not_asked_for_stay_as_they_are(fmt: Format, isa: str) -> None:
    case = make_case(fmt, 40, depths_of(fmt)[0], 3, seed=6)
    product = Product(case.strips, quantize_input(case.columns, fmt.block, isa), isa)
    whole = product.compute().copy()
    product.output[:] = -7
    product.compute(1, 2)
    assert product.output[:, 16:32].tobytes() == whole[:, 16:32].tobytes()
    assert (product.output[:, :16] == -7).all()
    assert (product.output[:, 32:] == -7).all()


@pytest.mark.parametrize("columns", [1, 2, 17])
def test_a_product_that_goes_on_gives_what_it_gives_at_once(fmt: Format, isa: str, columns: int) -> None:
    case = make_case(fmt, 40, depths_of(fmt)[-1], columns, seed=7)
    product = Product(case.strips, quantize_input(case.columns, fmt.block, isa), isa)
    whole = product.compute().copy()
    product.output[:] = -7
    product.compute(0, 1)
    product.compute(1, 3, prepared=True)
    assert product.output.tobytes() == whole.tobytes()


def test_packing_is_undone_row_by_row(fmt: Format) -> None:
    rows = random_bytes(fmt, 19 * 3, seed=8).reshape(19, -1)
    if fmt.name == "tq1_0":  # some bytes stand for what others stand for too
        rows = fmt.pack(fmt.unpack(rows.reshape(-1, fmt.block_bytes))).reshape(19, -1)
    strips = pack_strips(fmt.ggml_type, rows)
    assert strips.data.nbytes == 32 * rows.shape[1]
    for row in range(19):
        assert unpack_row(strips, row).tobytes() == rows[row].tobytes()
    with pytest.raises(IndexError, match="row 19 of 19"):
        unpack_row(strips, 19)


BLOCKS = [32, 64, 128, 256]
"""Of matrices: the first three share inputs."""


def parts_of(inputs: NDArray[np.uint8], depth: int, block: int) -> Inputs:
    """An input's parts where ``matmul/input.h`` has them."""
    count, at = depth // block, -(-(depth + 64) // 64) * 64
    size = -(-count * 4 // 64) * 64
    words = [
        np.ascontiguousarray(inputs[:, start : start + count * 4]).view(np.float32)
        for start in (at, at + 2 * size)
    ]
    codes = inputs[:, :depth].view(np.int8).astype(np.float32).reshape(len(inputs), count, block)
    return Inputs(codes, words[0][..., None], -words[1])


class TestInputs:
    @pytest.mark.parametrize("weights", BLOCKS)
    def test_values_are_off_by_half_a_step_at_most(self, isa: str, weights: int) -> None:
        values = np.random.default_rng(weights).normal(0, 3, (5, 768)).astype(np.float32)
        values[0, :weights] = 0
        block = 256 if weights == 256 else 32
        got, wanted = parts_of(quantize_input(values, weights, isa), 768, block), exact_inputs(values, block)
        assert np.array_equal(got.codes, wanted.codes)
        assert np.array_equal(got.scale, wanted.scale)
        assert block == 256 or np.array_equal(got.low, wanted.low)
        assert np.abs(got.codes).max() == 127
        step = got.scale.repeat(block, axis=2).astype(np.float64).reshape(values.shape)
        # half a step of the scale before it became fp16, which moves 127 steps by 2^-11 each
        assert (np.abs(got.values - values) <= step * (0.5001 + (127 * 2.0**-11 if block == 32 else 0))).all()

    @pytest.mark.parametrize("weights", BLOCKS)
    def test_all_instruction_sets_write_the_same_bytes(self, weights: int) -> None:
        rng = np.random.default_rng(weights)
        values = (rng.normal(0, 1, (3, 512)) * 10.0 ** rng.integers(-45, 38, (3, 512))).astype(np.float32)
        values[1, 3::97] = [np.nan, np.inf, -np.inf, 1e-45, -0.0, 3e38]
        wanted = quantize_input(values, weights, "scalar")
        for isa in available_isas():
            assert quantize_input(values, weights, isa).tobytes() == wanted.tobytes(), isa

    def test_bytes_and_scales_are_those_of_ggml(self, isa: str) -> None:
        rng = np.random.default_rng(11)
        values = (rng.normal(0, 1, (7, 4096)) * 10.0 ** rng.integers(-4, 4, (7, 4096))).astype(np.float32)
        theirs = subprocess.run(
            [sys.executable, "-m", "tests.runtime.ggml_inputs"],
            input=values.tobytes(), capture_output=True, check=True, cwd=REPOSITORY, timeout=60,
        ).stdout  # fmt: skip
        for block, (codes, scale, low) in ggml_inputs.parse(theirs, values.shape).items():
            got = parts_of(quantize_input(values, block, isa), 4096, block)
            sign = np.where(scale < 0, -1, 1)  # Q8_K turns the signs of bytes and scale
            assert np.array_equal(got.codes, codes * sign)
            assert np.array_equal(got.scale, scale * sign)
            assert low is None or np.array_equal(got.low, low)

    def test_values_too_small_to_be_told_from_zero_count_as_zero(self, isa: str) -> None:
        values = np.full((1, 32), 1e-40, dtype=np.float32)
        assert not quantize_input(values, 32, isa).any()

    def test_a_scale_beyond_fp16_stays_what_it_is(self, isa: str) -> None:
        values = np.full((1, 32), 1e8, dtype=np.float32)
        assert parts_of(quantize_input(values, 32, isa), 32, 32).scale == np.float32(1e8) / np.float32(127)


class TestMisuse:
    def test_a_type_without_a_product_is_told(self) -> None:
        with pytest.raises(ValueError, match="ggml type 16 are not multiplied"):
            strip_layout(16)

    def test_rows_of_another_shape_are_told(self) -> None:
        with pytest.raises(ValueError, match=r"must be contiguous uint8 \[rows, n \* 18\]"):
            pack_strips(2, np.zeros((2, 17), dtype=np.uint8))

    def test_inputs_of_another_depth_are_told(self) -> None:
        strips = pack_strips(2, np.zeros((2, 18), dtype=np.uint8))
        with pytest.raises(ValueError, match="for 32 values they have"):
            Product(strips, aligned(64).reshape(1, 64))

    def test_an_instruction_set_that_is_not_there_is_told(self) -> None:
        with pytest.raises(KernelError, match="this build has no such kernels"):
            multiply(pack_strips(2, np.zeros((2, 18), dtype=np.uint8)), np.zeros((1, 32), np.float32), "avx3")
