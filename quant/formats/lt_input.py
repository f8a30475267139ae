"""The input of matrices in LT formats: signs, Hadamard transforms of blocks, and an order of columns.

A random-sign Hadamard transform makes weights Gaussian, and outliers of the input disappear in their block
(QuIP#, Tseng et al. 2024). It is symmetric and its own inverse but for the signs, so rows of weights and
inputs take the same way: W' z' = W z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quant.formats.format import F32, U8

U16 = NDArray[np.uint16]

BLOCKS: Final = (128, 64)
"""Columns that are transformed together: the first that divides a row."""
ALIGNMENT: Final = 64


@dataclass(frozen=True, slots=True)
class LtInput:
    """How the input of a matrix is transformed before it is multiplied."""

    block: int
    """128 or 64: columns that are transformed together; the product's input has a scale for each."""
    minus: NDArray[np.bool_]
    """[columns]: whether the sign is turned over before the transform."""
    order: U16
    """[columns]: which transformed column is where."""

    @property
    def columns(self) -> int:
        """Length of the input."""
        return self.order.size


def block_of(columns: int) -> int:
    """The block of rows of ``columns``, a multiple of 64."""
    return next(block for block in BLOCKS if columns % block == 0)


def input_bytes(columns: int) -> int:
    """Bytes of a packed input."""
    return _padded(-(-columns // 8)) + _padded(2 * columns)


def pack_input(given: LtInput) -> U8:
    """-> uint8 [input_bytes]: bits of signs, bit c of byte c / 8; then the order."""
    data = np.zeros(input_bytes(given.columns), np.uint8)
    signs = np.packbits(given.minus, bitorder="little")
    data[: signs.size] = signs
    start = _padded(signs.size)
    data[start : start + 2 * given.columns] = given.order.astype("<u2", copy=False).view(np.uint8)
    return data


def unpack_input(data: U8, columns: int) -> LtInput:
    """The inverse of :func:`pack_input`. ValueError when the length is wrong, or the order no permutation."""
    if data.size != input_bytes(columns):
        raise ValueError(
            f"{data.size} bytes are no input of {columns} columns: it has {input_bytes(columns)}"
        )
    minus = np.unpackbits(data[: -(-columns // 8)], count=columns, bitorder="little").astype(np.bool_)
    start = _padded(-(-columns // 8))
    order = data[start : start + 2 * columns].copy().view("<u2").astype(np.uint16, copy=False)
    if not np.array_equal(np.sort(order), np.arange(columns)):
        raise ValueError(f"the order of the {columns} columns is no permutation")
    return LtInput(block_of(columns), minus, order)


def transform(given: LtInput, rows: F32) -> F32:
    """[n, columns] -> [n, columns]: rows of weights, or inputs, as the product takes them."""
    signed = rows.astype(np.float32)
    signed[:, given.minus] *= np.float32(-1)
    hadamard(signed[:, :, None], given.block)
    return signed[:, given.order]


def restore(given: LtInput, rows: F32) -> F32:
    """The inverse of :func:`transform`, but for rounding."""
    found = np.empty(rows.shape, np.float32)
    found[:, given.order] = rows
    hadamard(found[:, :, None], given.block)
    found[:, given.minus] *= np.float32(-1)
    return found


def hadamard(values: F32, block: int) -> None:
    """Sylvester's transform of every ``block`` columns of ``values`` [n, columns, inner], over sqrt(block),
    in place.

    ``values`` are contiguous. Butterflies of neighbours come first; the bits do not depend on n and inner.
    """
    outer, columns, inner = values.shape
    size = 1
    while size < block:
        pairs = values.reshape(outer * columns // (2 * size), 2, size * inner)
        difference = pairs[:, 0] - pairs[:, 1]
        pairs[:, 0] += pairs[:, 1]
        pairs[:, 1] = difference
        size *= 2
    values *= np.float32(1 / math.sqrt(block))


def _padded(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT
