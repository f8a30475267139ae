"""The int8 dot product of every instruction set against Python's own integers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.kernels import Kernels, available_isas, dot_i8

LENGTHS = [0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 127, 128, 129, 576, 640, 1536, 4096 + 64]
BLOCK = 32768
"""What a kernel sums in 32 bits before it widens."""


def exact(a: NDArray[np.int8], b: NDArray[np.int8]) -> int:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True))


def random_rows(
    length: int, offset_a: int = 0, offset_b: int = 0
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """Two rows that begin so many bytes behind a 64-byte boundary."""
    rng = np.random.default_rng([length, offset_a, offset_b])
    rows = []
    for offset in (offset_a, offset_b):
        memory = np.zeros(length + 192, dtype=np.int8)
        start = -memory.ctypes.data % 64 + offset
        row = memory[start : start + length]
        row[:] = rng.integers(-128, 128, length, dtype=np.int8)
        assert length == 0 or row.ctypes.data % 64 == offset
        rows.append(row)
    return rows[0], rows[1]


@pytest.fixture(params=available_isas())
def kernels(request: pytest.FixtureRequest) -> Kernels:
    return Kernels(request.param)


@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_and_alignment_is_exact(kernels: Kernels, length: int) -> None:
    for offset_a, offset_b in [(0, 0), (1, 0), (0, 1), (3, 5), (31, 33), (63, 62)]:
        a, b = random_rows(length, offset_a, offset_b)
        assert kernels.dot_i8(a, b) == exact(a, b), (offset_a, offset_b)


@pytest.mark.parametrize("length", [1, 4, 64, 97, 4096, BLOCK - 1, BLOCK, BLOCK + 1, 1 << 18])
@pytest.mark.parametrize(("x", "y"), [(-128, -128), (-128, 127), (127, -128), (127, 127)])
def test_the_extremes_neither_saturate_nor_overflow(kernels: Kernels, length: int, x: int, y: int) -> None:
    a, b = np.full(length, x, dtype=np.int8), np.full(length, y, dtype=np.int8)
    assert kernels.dot_i8(a, b) == length * x * y


@pytest.mark.parametrize("length", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 65])
def test_rows_longer_than_a_block_are_exact(kernels: Kernels, length: int) -> None:
    a, b = random_rows(length, 1, 2)
    assert kernels.dot_i8(a, b) == int(a.astype(np.int64) @ b.astype(np.int64))


def test_changing_any_one_element_changes_the_result(kernels: Kernels) -> None:
    a, b = np.ones(129, dtype=np.int8), np.ones(129, dtype=np.int8)
    for row in (a, b):
        for i in range(row.size):
            row[i] = 2
            with pytest.raises(AssertionError):  # the comparison above is able to fail
                assert kernels.dot_i8(a, b) == 129
            assert kernels.dot_i8(a, b) == 130
            row[i] = 1


def test_bytes_around_the_rows_have_no_influence(kernels: Kernels) -> None:
    for length in LENGTHS:
        memory_a, memory_b = np.full((2, length + 128), -128, dtype=np.int8)
        memory_a[64 : 64 + length] = 1
        memory_b[64 : 64 + length] = 1
        assert kernels.dot_i8(memory_a[64 : 64 + length], memory_b[64 : 64 + length]) == length


def test_the_active_instruction_set_serves_the_plain_function() -> None:
    a, b = random_rows(4096 + 64, 3, 4)
    assert dot_i8(a, b) == exact(a, b)


def test_rows_of_another_type_are_refused_with_that_type() -> None:
    row = np.zeros(8, dtype=np.int8)
    with pytest.raises(TypeError, match="a has dtype uint8; it must be int8"):
        dot_i8(row.view(np.uint8), row)


def test_rows_of_unequal_length_are_refused_with_both_lengths() -> None:
    with pytest.raises(ValueError, match="a has 8 elements, b has 9"):
        dot_i8(np.zeros(8, dtype=np.int8), np.zeros(9, dtype=np.int8))


@pytest.mark.parametrize("rows", [np.zeros((2, 4), dtype=np.int8), np.zeros(16, dtype=np.int8)[::2]])
def test_matrices_and_strided_rows_are_refused(rows: NDArray[np.int8]) -> None:
    with pytest.raises(ValueError, match="one contiguous row"):
        dot_i8(rows, rows)
