"""Matrices and columns for products, and their exact results in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant.formats.format import Format
from quant.formats.registry import FORMATS
from runtime.kernels.packing import dequantize_blocks
from runtime.kernels.products import Strips, pack_strips
from tests.quant.random_blocks import random_blocks

EPSILON = 2.0**-24
"""Of a float32 operation."""


@dataclass(frozen=True)
class Case:
    """A matrix in ggml's blocks and in strips, and columns to multiply it with."""

    fmt: Format
    rows: NDArray[np.uint8]
    strips: Strips
    columns: NDArray[np.float32]


def make_case(
    fmt: Format, rows: int, depth: int, columns: int, *, seed: int = 0, hard: bool = False, offset: int = 0
) -> Case:
    """Random codes and scales (``hard``: zeros, subnormals, infinities and NaN among them) and columns."""
    blocks = random_blocks(fmt, rows * (depth // fmt.block), seed, hard=hard)
    data = fmt.pack(blocks).reshape(rows, -1)
    values = np.random.default_rng([seed, 1]).normal(0, 1, (columns, depth)).astype(np.float32)
    return Case(fmt, data, pack_strips(fmt.ggml_type, data, offset=offset), values)


def formats() -> list[Format]:
    """Every format that the kernels multiply."""
    return sorted(FORMATS, key=lambda fmt: fmt.name)


def input_block(fmt: Format) -> int:
    """How many values of a column share a scale when they are multiplied with a format's matrix."""
    return 256 if fmt.block == 256 else 32


@dataclass(frozen=True)
class Inputs:
    """Columns as bytes and scales."""

    codes: NDArray[np.float32]
    """[columns, blocks, block], whole numbers."""
    scale: NDArray[np.float32]
    """[columns, blocks, 1]"""
    low: NDArray[np.float32]
    """[columns, blocks]: what a minimum of a block of 32 is multiplied with."""

    @property
    def values(self) -> NDArray[np.float64]:
        """What the columns are once they are bytes: [columns, depth]."""
        values = self.codes.astype(np.float64) * self.scale.astype(np.float64)
        return values.reshape(len(values), -1)


def exact_inputs(columns: NDArray[np.float32], block: int) -> Inputs:
    """Columns as products quantize them."""
    pieces = columns.reshape(len(columns), -1, block)
    largest = np.abs(pieces).max(axis=2, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest >= 2.0**-100)
    codes = np.rint(pieces * inverse)
    if block == 256:
        scale = np.divide(np.float32(1), inverse, out=np.zeros_like(inverse), where=inverse > 0)
        return Inputs(codes, scale, np.zeros(scale.shape[:2], np.float32))
    scale = largest / np.float32(127)
    low = (scale[..., 0] * codes.sum(axis=2)).astype(np.float16).astype(np.float32)
    return Inputs(codes, scale.astype(np.float16).astype(np.float32), low)


def exact_product(case: Case) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[columns, rows]: results in float64, and how far float32 may be from them.

    A result is a chain of at most ``groups + 2`` products and sums a block. Each rounds what it has got so
    far, which the sum of all magnitudes bounds; four more operations make a block's scale and its share.
    """
    fmt, layout = case.fmt, case.strips.layout
    data = case.rows.reshape(-1, layout.nbytes)
    weights = dequantize_blocks(fmt.ggml_type, data).astype(np.float64).reshape(len(case.rows), -1)
    inputs = exact_inputs(case.columns, input_block(fmt))
    size = np.abs(inputs.values) @ magnitudes(case).T
    wanted = inputs.values @ weights.T
    blocks = fmt.unpack(data)
    if blocks.minimum is not None and blocks.minima is None:  # minima meet the input's low, not its values
        minimum = blocks.minimum.astype(np.float64).reshape(len(case.rows), -1)
        apart = inputs.values.reshape(*inputs.low.shape, -1).sum(axis=2) - inputs.low
        wanted += apart @ minimum.T
        size += np.abs(apart) @ np.abs(minimum).T
    operations = case.columns.shape[1] // fmt.block * (fmt.block // input_block(fmt) + 1)
    return wanted, (operations + 2 * fmt.groups + 6) * EPSILON * size


def require_near(
    got: NDArray[np.float32], wanted: NDArray[np.float64], tolerance: NDArray[np.float64]
) -> None:
    """Raises AssertionError, naming the worst of the results [columns, rows], where some are further off."""
    wrong = np.abs(got - wanted) > tolerance
    if wrong.any():
        column, row = np.unravel_index(np.argmax(np.abs(got - wanted) / tolerance), got.shape)
        raise AssertionError(
            f"row {row}, column {column}: {got[column, row]}, wanted {wanted[column, row]}"
            f" +- {tolerance[column, row]}; {wrong.sum()} of {wrong.size} are wrong"
        )


def magnitudes(case: Case) -> NDArray[np.float64]:
    """[rows, depth]: sizes of the parts that a weight is made of, before they cancel."""
    blocks = case.fmt.unpack(case.rows.reshape(-1, case.fmt.block_bytes))
    levels = np.abs(np.array(case.fmt.levels, dtype=np.float64))[blocks.codes]
    size = levels * np.abs(blocks.scale.astype(np.float64))[:, None]
    if blocks.scales is not None:
        size *= np.abs(blocks.scales.astype(np.float64)).repeat(case.fmt.group, axis=1)
    if blocks.minimum is not None:
        minimum = np.abs(blocks.minimum.astype(np.float64))[:, None]
        if blocks.minima is not None:
            minimum = minimum * blocks.minima.astype(np.float64).repeat(case.fmt.group, axis=1)
        size = size + minimum
    return size.reshape(len(case.rows), -1)
