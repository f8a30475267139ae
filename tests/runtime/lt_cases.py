"""Matrices in LT formats and columns for products, and what they are by the format's text, in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.lt import LT_ROWS, LtInput, LtMatrix, strip_bytes
from runtime.kernels.products import aligned

EPSILON = 2.0**-24
"""Of a float32 operation."""


@dataclass(frozen=True)
class Case:
    """A matrix, how its input is transformed, and columns to multiply it with."""

    matrix: LtMatrix
    transform: LtInput
    columns: NDArray[np.float32]


def make_case(bits: int, state_bits: int, rows: int, depth: int, columns: int, seed: int = 0) -> Case:
    """Random codes, scales, table, signs, order and columns."""
    rng = np.random.default_rng([bits, state_bits, rows, depth, seed])
    count = -(-rows // LT_ROWS)
    data = aligned(count * strip_bytes(bits, depth))
    strips = data.reshape(count, -1)
    strips[:] = rng.integers(0, 256, strips.shape, dtype=np.uint8)
    strips[:, : 2 * LT_ROWS].view(np.float16)[:] = rng.uniform(-2, 2, (count, LT_ROWS)).astype(np.float16)
    largest = 64 if state_bits == 4 else 127
    table = rng.integers(-largest, largest + 1, 1 << state_bits, dtype=np.int8)
    table[[0, -1]] = -largest, largest
    transform = LtInput(
        rng.integers(0, 256, depth // 8, dtype=np.uint8), rng.permutation(depth).astype(np.uint16)
    )
    values = rng.normal(0, 1, (columns, depth)).astype(np.float32)
    return Case(LtMatrix(bits, state_bits, rows, depth, table, data), transform, values)


def weights(matrix: LtMatrix) -> NDArray[np.float64]:
    """[rows, depth], for transformed inputs."""
    strips = matrix.data.reshape(matrix.count, -1)
    scales = strips[:, : 2 * LT_ROWS].copy().view(np.float16).astype(np.float64)
    states = np.stack([_states(matrix, strip[2 * LT_ROWS :]) for strip in strips])
    values: NDArray[np.float64] = matrix.table[states].astype(np.float64) * scales[:, :, None]
    return values.reshape(-1, matrix.depth)[: matrix.rows]


def _states(matrix: LtMatrix, codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[64, depth] of one strip."""
    bits, depth = matrix.bits, matrix.depth
    states = np.zeros((LT_ROWS, depth), np.int64)
    words = np.unpackbits(codes.reshape(-1, 8, 8), axis=2, bitorder="little")  # [lines, qwords, bits]
    if bits == 1:
        _unroll(
            states,
            words[:, :, None],
            matrix,
            8,
            lambda t: (2 * (t % 8 % 4) + t // 8 // 4, 4 * (t % 8 // 4) + t // 8 % 4),
        )
    elif bits == 2:
        _unroll(states, words[:, :, None], matrix, 4, lambda t: (2 * (t % 4) + t // 4 // 4, t // 4 % 4))
    elif bits == 4:
        pairs = words.reshape(-1, 2, 8, 64).transpose(0, 2, 1, 3)  # line l of a qword: rows 4l to 4l + 3
        _unroll(states, pairs, matrix, 4, lambda t: (2 * (t % 2) + t // 2 // 4, t // 2 % 4))
    else:
        lines = words.reshape(-1, 3, 8, 64)
        rings = np.zeros((len(lines), 2, 8, 96), np.uint8)
        for half in (0, 1):
            rings[:, half, :, 0::3] = lines[:, 2, :, 32 * half : 32 * half + 32]
            rings[:, half, :, 1::3] = lines[:, half, :, 0::2]
            rings[:, half, :, 2::3] = lines[:, half, :, 1::2]
        rings = rings.reshape(-1, 8, 1, 96)
        _unroll(states, rings, matrix, 4, lambda t: (2 * (t % 4) + t // 4 // 4, t // 4 % 4))
    return states


def _unroll(
    states: NDArray[np.int64],
    rings: NDArray[np.uint8],
    matrix: LtMatrix,
    wide: int,
    place: Callable[[int], tuple[int, int]],
) -> None:
    """rings [groups of `wide` columns, qwords, words of a qword, bits] -> states of their steps, which
    ``place`` puts in (row, column) of their word."""
    groups, qwords, parts, size = rings.shape
    high = 8 // parts
    for step in range(size // matrix.bits):
        at = (matrix.bits * step + np.arange(matrix.state_bits)) % size
        state = rings[..., at].astype(np.int64) @ (1 << np.arange(matrix.state_bits))
        row, column = place(step)
        for part in range(parts):
            states[part * high + row :: 8, column::wide] = state[:, :, part].T
    assert groups * wide == matrix.depth
    assert qwords == 8


def hadamard(size: int) -> NDArray[np.float64]:
    """Sylvester's, not scaled."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def block_of(depth: int) -> int:
    return 128 if depth % 128 == 0 else 64


def transformed(transform: LtInput, columns: NDArray[np.float32]) -> NDArray[np.float64]:
    """z, before it becomes bytes: [columns, depth]."""
    depth = transform.depth
    block = block_of(depth)
    signs = 1.0 - 2.0 * np.unpackbits(transform.signs, bitorder="little").astype(np.float64)
    blocks = (columns.astype(np.float64) * signs).reshape(len(columns), -1, block)
    turned: NDArray[np.float64] = (blocks @ hadamard(block) / np.sqrt(block)).reshape(len(columns), -1)
    return turned[:, transform.order]


@dataclass(frozen=True)
class Parts:
    """An input's: int8 [columns, depth], float32 and int32 [columns, blocks]."""

    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    sums: NDArray[np.int32]

    @property
    def numbers(self) -> NDArray[np.float64]:
        """What the column has become: [columns, depth]."""
        block = self.values.shape[1] // self.scales.shape[1]
        return self.values.astype(np.float64) * self.scales.astype(np.float64).repeat(block, axis=1)


def parts_of(inputs: NDArray[np.uint8], depth: int) -> Parts:
    count = depth // block_of(depth)
    size = -(-4 * count // 64) * 64
    words = [np.ascontiguousarray(inputs[:, at : at + 4 * count]) for at in (depth, depth + size)]
    return Parts(inputs[:, :depth].view(np.int8), words[0].view(np.float32), words[1].view(np.int32))


def exact_product(case: Case, inputs: Parts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[columns, rows]: results of the transformed inputs in float64, and how far float32 may be from them: a
    conversion, a product and a sum a block, and the row's scale."""
    matrix = weights(case.matrix)
    size = np.abs(inputs.numbers) @ np.abs(matrix).T
    return inputs.numbers @ matrix.T, (2 * inputs.scales.shape[1] + 2) * EPSILON * size


def with_other_bit(case: Case, strip: int, byte: int) -> Case:
    """The same with one bit of a code turned."""
    data = aligned(len(case.matrix.data))
    data[:] = case.matrix.data
    data[strip * strip_bytes(case.matrix.bits, case.matrix.depth) + 2 * LT_ROWS + byte] ^= 4
    return replace(case, matrix=replace(case.matrix, data=data))
