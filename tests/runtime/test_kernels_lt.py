"""Products with matrices in LT formats: every format and instruction set against float64 and each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtime.kernels import available_isas
from runtime.kernels.lt import BITS, STATE_BITS, LtInput, LtMatrix, LtProduct, multiply, transform_input
from runtime.kernels.products import aligned
from tests.runtime.lt_cases import (
    Case,
    block_of,
    exact_product,
    make_case,
    parts_of,
    transformed,
    with_other_bit,
)
from tests.runtime.product_cases import require_near

FORMATS = [(bits, state_bits) for bits in BITS for state_bits in STATE_BITS]
ROWS = [1, 7, 64, 97, 130]
DEPTHS = [64, 128, 576, 640, 1536, 4096 + 64]
COLUMNS = [1, 2, 3, 4, 8, 15, 16, 33]

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(params=FORMATS, ids=lambda found: "lt{}-{}".format(*found))
def fmt(request: pytest.FixtureRequest) -> tuple[int, int]:
    found: tuple[int, int] = request.param
    return found


@pytest.fixture(params=available_isas())
def isa(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def check(case: Case, isa: str) -> None:
    inputs = transform_input(case.transform, case.columns, isa)
    wanted, tolerance = exact_product(case, parts_of(inputs, case.matrix.depth))
    got = LtProduct(case.matrix, inputs, isa).compute()
    require_near(got, wanted, tolerance)


@pytest.mark.parametrize("depth", DEPTHS)
def test_products_are_those_of_float64(fmt: tuple[int, int], isa: str, depth: int) -> None:
    for rows in ROWS if depth < 1000 else ROWS[1:2]:
        check(make_case(*fmt, rows, depth, 3), isa)


def test_one_changed_bit_of_a_code_is_noticed(fmt: tuple[int, int], isa: str) -> None:
    case = make_case(*fmt, 70, 640, 1)
    check(case, isa)
    inputs = transform_input(case.transform, case.columns, isa)
    wanted, tolerance = exact_product(case, parts_of(inputs, 640))
    changed = with_other_bit(case, strip=0, byte=77)
    got = LtProduct(changed.matrix, inputs, isa).compute()
    # a bit is in at most `state_bits` states of one word
    assert 1 <= (np.abs(got - wanted) > tolerance).sum() <= 8


@pytest.mark.parametrize("columns", COLUMNS)
def test_all_instruction_sets_give_the_reference_s_bits_for_any_number_of_columns(
    fmt: tuple[int, int], columns: int
) -> None:
    for rows, depth in ((97, 192), (33, 1024)):
        case = make_case(*fmt, rows, depth, columns)
        wanted = multiply(case.matrix, case.transform, case.columns, "scalar")
        for isa in available_isas():
            got = multiply(case.matrix, case.transform, case.columns, isa)
            assert got.tobytes() == wanted.tobytes(), (isa, rows, depth)


def test_the_largest_sums_are_exact(fmt: tuple[int, int], isa: str) -> None:
    case = make_case(*fmt, 64, 8192, 1)
    largest = int(np.abs(case.matrix.table).max())
    for sign in (-1, 1):
        table = np.full_like(case.matrix.table, sign * largest)
        signs, order = np.zeros_like(case.transform.signs), np.arange(8192, dtype=np.uint16)
        spikes = np.zeros((1, 8192), np.float32)
        spikes[0, ::128] = 127  # a block's transform is then the same everywhere, and its bytes are all 127
        one = Case(replace(case.matrix, table=table), LtInput(signs, order), spikes)
        assert (parts_of(transform_input(one.transform, spikes, isa), 8192).values == 127).all()
        check(one, isa)


def test_a_column_s_results_do_not_depend_on_its_neighbours(fmt: tuple[int, int], isa: str) -> None:
    case = make_case(*fmt, 70, 320, 21)
    together = multiply(case.matrix, case.transform, case.columns, isa)
    for column in (0, 7, 16, 20):
        alone = multiply(case.matrix, case.transform, case.columns[column : column + 1], isa)
        assert alone.tobytes() == together[column].tobytes()


@pytest.mark.parametrize("columns", [1, 20])
def test_strips_that_are_not_asked_for_stay_as_they_are(fmt: tuple[int, int], isa: str, columns: int) -> None:
    case = make_case(*fmt, 150, 64, columns)
    product = LtProduct(case.matrix, transform_input(case.transform, case.columns, isa), isa)
    whole = product.compute().copy()
    product.output[:] = -7
    product.compute(1, 2)
    assert product.output[:, 64:128].tobytes() == whole[:, 64:128].tobytes()
    assert (product.output[:, :64] == -7).all()
    assert (product.output[:, 128:] == -7).all()


class TestInputs:
    @pytest.mark.parametrize("depth", DEPTHS)
    def test_values_are_off_by_half_a_step_at_most(self, isa: str, depth: int) -> None:
        case = make_case(2, 6, 1, depth, 5)
        got, block = parts_of(transform_input(case.transform, case.columns, isa), depth), block_of(depth)
        wanted = transformed(case.transform, case.columns)
        step = np.abs(wanted).reshape(5, -1, block).max(axis=2) / 127
        assert np.allclose(got.scales, step, rtol=1e-6)
        assert np.abs(got.values).max(axis=1).tolist() == [127] * 5
        assert (np.abs(got.numbers - wanted) <= 0.5001 * step.repeat(block, axis=1)).all()
        assert np.array_equal(-got.values.astype(np.int32).reshape(5, -1, block).sum(axis=2), got.sums)

    def test_one_other_sign_is_noticed(self, isa: str) -> None:
        case = make_case(2, 6, 1, 256, 1)
        before = parts_of(transform_input(case.transform, case.columns, isa), 256)
        case.transform.signs[20] ^= 16
        after = parts_of(transform_input(case.transform, case.columns, isa), 256)
        wanted = transformed(case.transform, case.columns)
        step = after.scales.repeat(128, axis=1)
        assert (np.abs(after.numbers - wanted) <= 0.5001 * step).all()
        assert (np.abs(before.numbers - wanted) > 0.5001 * step).sum() > 60

    @pytest.mark.parametrize("depth", DEPTHS)
    def test_all_instruction_sets_write_the_same_bytes(self, depth: int) -> None:
        case = make_case(2, 6, 1, depth, 3)
        rng = np.random.default_rng(depth)
        values = (case.columns * 10.0 ** rng.integers(-40, 30, case.columns.shape)).astype(np.float32)
        wanted = transform_input(case.transform, values, "scalar")
        for isa in available_isas():
            assert transform_input(case.transform, values, isa).tobytes() == wanted.tobytes(), isa

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_an_input_that_is_not_finite_gives_no_finite_result(self, isa: str, bad: float) -> None:
        case = make_case(2, 6, 20, 128, 2)
        case.columns[1, 77] = bad
        got = multiply(case.matrix, case.transform, case.columns, isa)
        assert np.isfinite(got[0]).all()
        assert not np.isfinite(got[1]).any()


class TestMisuse:
    def test_data_of_another_size_is_told(self) -> None:
        case = make_case(2, 6, 64, 64, 1)
        with pytest.raises(ValueError, match=r"it must be uint8 \[1152\]"):
            replace(case.matrix, data=case.matrix.data[:-1])

    def test_what_is_no_lt_format_is_told(self) -> None:
        case = make_case(2, 6, 64, 64, 1)
        with pytest.raises(ValueError, match="5 bits, states of 6 and rows of 64: no LT format"):
            replace(case.matrix, bits=5)
        with pytest.raises(ValueError, match=r"table is int8 \(64,\); it must be int8 \[16\]"):
            LtMatrix(2, 4, 64, 64, case.matrix.table, case.matrix.data)

    def test_an_order_that_leaves_the_column_is_told(self) -> None:
        with pytest.raises(ValueError, match="the order of 64 values must name these"):
            LtInput(np.zeros(8, np.uint8), np.arange(1, 65, dtype=np.uint16))

    def test_inputs_of_another_depth_are_told(self) -> None:
        case = make_case(2, 6, 64, 64, 1)
        with pytest.raises(ValueError, match="inputs have 64 bytes; for 64 values they have 192"):
            LtProduct(case.matrix, aligned(64).reshape(1, 64))
