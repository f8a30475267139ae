"""Typed binding of ``fit/``: the blocks of a format that are nearest to weights, by their importance.

Shapes, types and layouts are checked here. The call releases the GIL.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.bindings import backend
from runtime.kernels.signatures import BlocksData, FormatData

GROUPS_MAX = 16
BLOCK_MAX = 256


@dataclass(frozen=True, slots=True)
class FormatShape:
    """What the kernel has to know of a format: ``quant.formats.format.Format`` has the meanings."""

    block: int
    group: int
    levels: Sequence[int]
    affine: bool = False
    scale_range: tuple[int, int] | None = None
    minima_high: int | None = None

    def data(self) -> FormatData:
        """As the C ABI has it. Raises ValueError for a format that the kernel has no search for."""
        uniform = self.levels[-1] - self.levels[0] == len(self.levels) - 1
        if (
            not 1 <= self.group <= self.block <= BLOCK_MAX
            or self.block % self.group
            or self.block // self.group > GROUPS_MAX
            or not 2 <= len(self.levels) <= 256
            or (self.affine and not uniform)
            or (self.scale_range is None and self.group != self.block)
            or (self.affine and (self.minima_high is None) != (self.scale_range is None))
        ):
            raise ValueError(f"there is no search for a format such as {self}")
        low, high = self.scale_range or (0, 0)
        return FormatData(
            block=self.block,
            group=self.group,
            level_count=len(self.levels),
            affine=self.affine,
            scale_low=low,
            scale_high=high,
            minima_high=self.minima_high or 0,
            levels=(ctypes.c_float * 256)(*self.levels),
        )


@dataclass(frozen=True, slots=True)
class Fitted:
    """Blocks of rows, block by block of a row, row by row."""

    codes: NDArray[np.uint8]
    """[blocks, block]"""
    scale: NDArray[np.float16]
    """[blocks]"""
    minimum: NDArray[np.float16] | None
    """[blocks]"""
    scales: NDArray[np.int8] | None
    """[blocks, groups]"""
    minima: NDArray[np.uint8] | None
    """[blocks, groups]"""


def fit(
    shape: FormatShape,
    weights: NDArray[np.float32],
    importance: NDArray[np.float32],
    *,
    isa: str | None = None,
) -> Fitted:
    """Blocks of ``weights`` [rows, columns], float32 and contiguous; ``importance`` [columns] likewise.

    Weights are finite and at most 65504 in size; importances are 0, or normal floats above
    it.
    """
    if weights.dtype != np.float32 or weights.ndim != 2 or not weights.flags.c_contiguous:
        raise ValueError(f"weights are {weights.dtype} {weights.shape}; they must be contiguous float32 rows")
    rows, columns = weights.shape
    if importance.dtype != np.float32 or importance.shape != (columns,) or not importance.flags.c_contiguous:
        raise ValueError(
            f"importance is {importance.dtype} {importance.shape}; weights have {columns} columns"
        )
    if columns % shape.block:
        raise ValueError(f"{columns} columns are not blocks of {shape.block}")
    blocks = rows * columns // shape.block
    groups = (blocks, shape.block // shape.group)
    data, two_level = shape.data(), shape.scale_range is not None
    found = Fitted(
        codes=np.empty((blocks, shape.block), dtype=np.uint8),
        scale=np.empty(blocks, dtype=np.float16),
        minimum=np.empty(blocks, dtype=np.float16) if shape.affine else None,
        scales=np.empty(groups, dtype=np.int8) if two_level else None,
        minima=np.empty(groups, dtype=np.uint8) if shape.affine and two_level else None,
    )
    arrays = (found.codes, found.scale, found.minimum, found.scales, found.minima)
    out = BlocksData(*(None if array is None else array.ctypes.data for array in arrays))
    backend(isa).fit_f32(
        ctypes.byref(data), weights.ctypes.data, rows, columns, importance.ctypes.data, ctypes.byref(out)
    )
    return found
