"""The first largest float of every instruction set against a plain loop."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.kernels import Kernels, argmax_f32, argmax_f32_at, available_isas

NAN, INF = math.nan, math.inf
LENGTHS = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 1023, 1024, 1025, 2047, 2048, 2049, 49152]
ALL_KERNELS = [Kernels(isa) for isa in available_isas()]


@pytest.fixture(params=ALL_KERNELS, ids=lambda kernels: kernels.isa)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    found: Kernels = request.param
    return found


def plain_argmax(values: list[float]) -> int:
    best = -1
    for index, value in enumerate(values):
        if not math.isnan(value) and (best < 0 or value > values[best]):
            best = index
    return best


@pytest.mark.parametrize("length", LENGTHS)
def test_the_largest_is_found_at_every_place_of_every_length(kernels: Kernels, length: int) -> None:
    places = range(length) if length <= 128 else [0, 1, 15, 16, 1024, length // 2, length - 17, length - 1]
    for place in (p for p in places if 0 <= p < length):
        values = np.full(length, -1.5, dtype=np.float32)
        values[place] = np.nextafter(np.float32(-1.5), np.float32(0))
        assert kernels.argmax_f32(values) == place


@pytest.mark.parametrize("length", LENGTHS)
def test_of_equals_the_first_wins(kernels: Kernels, length: int) -> None:
    values = np.random.default_rng(length).integers(0, 4, length).astype(np.float32)
    assert kernels.argmax_f32(values) == int(values.argmax())


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([], -1),
        ([NAN], -1),
        ([NAN] * 100, -1),
        ([-INF], 0),
        ([NAN, -INF, -INF], 1),
        ([NAN] * 99 + [-INF], 99),
        ([NAN] * 99 + [-3.0], 99),
        ([5.0] + [NAN] * 99, 0),
        ([INF, INF, NAN], 0),
        ([1.0, INF, NAN, INF], 1),
        ([-0.0, 0.0], 0),
        ([0.0, -0.0], 0),
        ([-1e-45, -0.0, 0.0], 1),
        ([1e-45, 3e-45], 1),
    ],
)
def test_nan_never_wins_and_zeros_are_equal(kernels: Kernels, values: list[float], index: int) -> None:
    for padding in (0, 40, 5000):
        row = np.array([*values, *[NAN] * padding], dtype=np.float32)
        assert kernels.argmax_f32(row) == index


@given(bits=st.lists(st.integers(0, 2**32 - 1), max_size=200), repeats=st.integers(1, 30))
def test_any_bit_patterns_agree_with_a_plain_loop(bits: list[int], repeats: int) -> None:
    values = np.tile(np.array(bits, dtype=np.uint32).view(np.float32), repeats)
    expected = plain_argmax(values.tolist())
    for kernels in ALL_KERNELS:
        assert kernels.argmax_f32(values) == expected, kernels.isa


def test_the_plain_functions_take_arrays_addresses_and_pointers() -> None:
    values = np.random.default_rng(7).standard_normal(49152).astype(np.float32)
    pointer = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    found = [
        argmax_f32(values),
        argmax_f32_at(values.ctypes.data, values.size),
        argmax_f32_at(pointer, values.size),
    ]
    assert found == [int(values.argmax())] * 3


def test_rows_of_another_type_are_refused_with_that_type() -> None:
    with pytest.raises(TypeError, match="dtype float64; it must be float32"):
        argmax_f32(np.zeros(4))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dtype >f4; it must be float32"):
        argmax_f32(np.zeros(4, dtype=">f4"))


@pytest.mark.parametrize("values", [np.zeros((2, 2), dtype=np.float32), np.zeros(8, dtype=np.float32)[::2]])
def test_matrices_and_strided_rows_are_refused(values: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="one contiguous row"):
        argmax_f32(values)
