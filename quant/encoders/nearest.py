"""Round to nearest, on the grids with the least importance-weighted squared error.

For every block the search of ``runtime/kernels/fit`` looks for the scale (and minimum, and integers of
groups) that minimise the sum of importance[column] * (weight - value)^2: the error of the matrix's output, as
far as the inputs of its columns are uncorrelated. :mod:`quant.encoders.reference` is the same in NumPy.
"""

from __future__ import annotations

import numpy as np

from quant.errors import CannotEncode
from quant.formats.format import F32, Blocks, Format
from runtime.kernels.scale_search import FormatShape, fit

LARGEST = 65504.0
"""The largest fp16: what every format can hold."""
FAINT = np.float32(2.0**-100)
RAISE = np.float32(2.0**80)
"""Importances of a block below the first are multiplied by the second, exactly: the inverse of a subnormal is
no float32."""


def nearest(fmt: Format, weights: F32, importance: F32 | None = None, *, isa: str | None = None) -> Blocks:
    """The blocks of ``weights`` [rows, columns], in order: rows * columns / fmt.block of them.

    ``importance`` [columns] is the mean square of each column's input; without it all columns count alike.
    Only ratios within a block matter, and a block whose columns have none at all counts them alike. Rows do
    not influence each other: any split gives the same bits, as does any instruction set (``isa`` forces one).
    The GIL is released: threads may work on rows of one matrix, best in multiples of 16.

    Raises :class:`CannotEncode` when the columns are not whole blocks, or a weight or an importance is not
    finite or out of range.
    """
    weights = np.ascontiguousarray(weights, dtype=np.float32)
    columns = weights.shape[1]
    if not fmt.fits(columns):
        raise CannotEncode(
            f"rows of {columns} weights are not whole blocks of {fmt.name}, which has {fmt.block} to a block;"
            " choose a format whose blocks fit"
        )
    if weights.size and not (weights.min() >= -LARGEST and weights.max() <= LARGEST):  # NaN is neither
        raise CannotEncode(
            f"weights are not finite or exceed {LARGEST:g}, the largest that {fmt.name} can hold;"
            " keep this tensor in the source's type"
        )
    if importance is None:
        importance = np.ones(columns, dtype=np.float32)
    if importance.shape != (columns,):
        raise CannotEncode(f"importance has shape {importance.shape}; the weights have {columns} columns")
    importance = np.ascontiguousarray(importance, dtype=np.float32)
    if not (np.isfinite(importance).all() and float(importance.min()) >= 0.0):
        raise CannotEncode("an importance is negative or not finite; calibrate again")
    of_blocks = importance.reshape(-1, fmt.block)
    faint = of_blocks.max(axis=1, keepdims=True) < FAINT
    importance = (of_blocks * np.where(faint, RAISE, np.float32(1))).reshape(-1)
    shape = FormatShape(fmt.block, fmt.group, fmt.levels, fmt.affine, fmt.scale_range, fmt.minima_high)
    found = fit(shape, weights, importance, isa=isa)
    return Blocks(found.codes, found.scale, found.minimum, found.scales, found.minima)
