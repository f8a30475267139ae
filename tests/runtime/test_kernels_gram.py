"""The Gram kernel of every instruction set against float64, and against the others bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.kernels import available_isas
from runtime.kernels.moments import gram, gram_at, mirror

SHAPES = [
    (1, 1, 1),
    (3, 1, 7),
    (129, 1, 33),
    (300, 1, 97),
    (5, 1, 257),
    (64, 3, 32),
    (130, 5, 20),
    (40, 2, 288),
]
"""Tokens, blocks, size of a block."""


def inputs(tokens: int, columns: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(tokens * 1000 + columns)
    return rng.standard_normal((tokens, columns), dtype=np.float32)


def moments(
    x: NDArray[np.float32], blocks: int, size: int, threads: int = 1, isa: str | None = None
) -> NDArray[np.float32]:
    out = np.zeros((blocks, size, size), dtype=np.float32)
    gram(x, out, threads=threads, isa=isa)
    mirror(out)
    return out


def in_float64(x: NDArray[np.float32], blocks: int, size: int) -> NDArray[np.float64]:
    wide = x.astype(np.float64).reshape(len(x), blocks, size)
    found: NDArray[np.float64] = np.einsum("tbi,tbj->bij", wide, wide)
    return found


def worst(found: NDArray[np.float32], x: NDArray[np.float32], blocks: int, size: int) -> float:
    """The largest error as a part of what rounding each operation once can make of it."""
    bound = (len(x) + 2) * 2.0**-24 * in_float64(np.abs(x), blocks, size)
    return float((np.abs(found - in_float64(x, blocks, size)) / bound).max())


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize(("tokens", "blocks", "size"), SHAPES)
def test_sums_are_those_of_float64_within_rounding(isa: str, tokens: int, blocks: int, size: int) -> None:
    x = inputs(tokens, blocks * size)
    assert worst(moments(x, blocks, size, isa=isa), x, blocks, size) <= 1


def test_one_changed_input_is_noticed() -> None:
    x = inputs(300, 97)
    changed = x.copy()
    changed[150, 50] *= np.float32(1.001)
    assert worst(moments(changed, 1, 97), x, 1, 97) > 1


@pytest.mark.parametrize(("tokens", "blocks", "size"), SHAPES)
def test_instruction_sets_and_threads_give_the_same_bits(tokens: int, blocks: int, size: int) -> None:
    x = inputs(tokens, blocks * size)
    first, *others = [
        moments(x, blocks, size, threads, isa) for isa in available_isas() for threads in (1, 2, 5)
    ]
    assert all(np.array_equal(first, other) for other in others)


def test_a_block_is_the_block_on_the_diagonal_of_the_full_matrix() -> None:
    x = inputs(200, 96)
    full, blocks = moments(x, 1, 96), moments(x, 3, 32)
    for index, block in enumerate(blocks):
        some = slice(32 * index, 32 * index + 32)
        assert np.array_equal(block, full[0, some, some])


def test_calls_add_up() -> None:
    x = inputs(256, 40)
    out = np.zeros((1, 40, 40), dtype=np.float32)
    for part in (x[:128], x[128:]):  # as the kernel itself goes over tokens: the same bits
        gram(part, out)
    mirror(out)
    assert np.array_equal(out, moments(x, 1, 40))


def test_rows_at_an_address_are_those_of_an_array() -> None:
    x = inputs(77, 64)
    out = np.zeros((1, 64, 64), dtype=np.float32)
    gram_at(x.ctypes.data, 77, 64, out, threads=2)
    mirror(out)
    assert np.array_equal(out, moments(x, 1, 64))


def test_no_token_adds_nothing() -> None:
    out = np.ones((1, 8, 8), dtype=np.float32)
    gram(np.zeros((0, 8), dtype=np.float32), out)
    assert (out == 1).all()


@pytest.mark.parametrize("size", [1, 5, 256, 300, 600])
def test_mirror_copies_what_is_below_the_diagonal(size: int) -> None:
    matrix = np.random.default_rng(size).standard_normal((2, size, size)).astype(np.float32)
    mirrored = matrix.copy()
    mirror(mirrored)
    for index in range(2):
        assert np.array_equal(np.tril(mirrored[index]), np.tril(matrix[index]))
        assert np.array_equal(mirrored[index], mirrored[index].T)


def test_arrays_of_other_types_and_shapes_are_refused() -> None:
    out = np.zeros((1, 8, 8), dtype=np.float32)
    with pytest.raises(ValueError, match=r"x is float64 \(4, 8\); it must be contiguous float32"):
        gram(np.zeros((4, 8)), out)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="out has 1 blocks of 8; together they must have the 9 columns"):
        gram(np.zeros((4, 9), dtype=np.float32), out)
    with pytest.raises(ValueError, match="out is float32"):
        gram(np.zeros((4, 8), dtype=np.float32), np.zeros((8, 8), dtype=np.float32))
