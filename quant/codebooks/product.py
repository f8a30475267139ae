"""Product quantization: vectors of a few neighbouring weights, each the index of a point in a learned
codebook.

Jegou, Douze and Schmid 2011, with a codebook for a matrix, and a scale for a row. The error counts as the
diagonal of the inputs' Hessian says, not alike for all columns. Scales in fp16 and indices of 4, 5 or 8
bits make 2, 2.5 and 2 bits a weight, beside the codebook's own bytes:

    pairs of 16 points, pairs of 32, fours of 256
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quant.codebooks.kmeans import assign, kmeans
from quant.errors import CannotEncode
from quant.formats.format import F16, F32, I8, U8

U16 = NDArray[np.uint16]

LEARNING_VECTORS: Final = 1 << 16
"""A codebook is learned from so many vectors at most, spread evenly over the matrix."""
REACH: Final = 127
"""The largest coordinate of a codebook."""


@dataclass(frozen=True, slots=True)
class ProductScheme:
    """How long a vector is, and how many points a codebook has."""

    dimensions: int
    points: int

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 4) or not 2 <= self.points <= 256:
            raise CannotEncode(
                f"{self.points} points of {self.dimensions} dimensions: it must be 2 to 256 points of 2 or 4"
            )

    @property
    def index_bits(self) -> int:
        """Bits of an index."""
        return (self.points - 1).bit_length()

    def bits_per_weight(self, rows: int, columns: int) -> float:
        """Bits of storage for a weight of a matrix: index, the row's scale, the codebook."""
        codebook = 8 * self.points * self.dimensions / (rows * columns)
        return self.index_bits / self.dimensions + 16 / columns + codebook


PAIRS_OF_16: Final = ProductScheme(dimensions=2, points=16)
PAIRS_OF_32: Final = ProductScheme(dimensions=2, points=32)
FOURS_OF_256: Final = ProductScheme(dimensions=4, points=256)


@dataclass(frozen=True, slots=True)
class ProductRows:
    """A matrix in a codebook: weight = f32(scale of the row) * coordinate of the point."""

    codebook: I8
    """[points, dimensions]"""
    indices: U8
    """[rows, columns / dimensions]"""
    scale: F16
    """[rows]"""


def learn_codebook(scheme: ProductScheme, rows: F32, importance: F32 | None = None, *, seed: int = 0) -> I8:
    """[points, dimensions]: the points with the least error that k-means finds for ``rows`` [rows, columns].

    ``importance`` [columns] weighs squared errors: the diagonal of the Hessian of the rows' inputs; None: all
    alike. Rows count relative to their root mean square. Raises :class:`CannotEncode` when shapes do not fit,
    for weights that are not finite, and for fewer vectors than points.
    """
    vectors, weights = _vectors(scheme, rows, importance)
    if not vectors.any():
        return np.zeros((scheme.points, scheme.dimensions), np.int8)
    some = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), LEARNING_VECTORS)).astype(np.intp))
    centres = kmeans(vectors[some], weights[some], scheme.points, seed=seed).centres
    points: I8 = np.rint(centres * (REACH / np.abs(centres).max())).astype(np.int8)
    return points


def encode(scheme: ProductScheme, codebook: I8, rows: F32, importance: F32 | None = None) -> ProductRows:
    """``rows`` [rows, columns] in a ``codebook``, with the row scales of the least error for the points
    chosen.

    Points are chosen with the scale that makes the codebook's spread the row's; the scale is then fitted, and
    points are chosen again, twice. Raises as :func:`learn_codebook`.
    """
    _vectors(scheme, rows, importance)
    count, columns = rows.shape
    weight = np.broadcast_to(_importance(columns, importance), rows.shape)
    scale = _first_scales(codebook, rows)
    indices = np.zeros((count, columns // scheme.dimensions), np.uint8)
    for _ in range(3):
        of_scale = scale.astype(np.float32)[:, None]
        relative = np.divide(rows, of_scale, out=np.zeros_like(rows), where=of_scale != 0)
        shape = (-1, scheme.dimensions)
        found = assign(relative.reshape(shape), weight.reshape(shape), codebook.astype(np.float32))
        indices = found.reshape(indices.shape).astype(np.uint8)
        values = codebook.astype(np.float64)[indices].reshape(rows.shape)
        along, across = (weight * rows * values).sum(axis=1), (weight * values * values).sum(axis=1)
        fitted = np.divide(along, across, out=np.zeros(count), where=across > 0)
        scale = np.where(fitted > 0, fitted, scale).astype(np.float16)
    return ProductRows(codebook, indices, scale)


def decode(found: ProductRows) -> F32:
    """[rows, columns] of float32; each weight is rounded once."""
    values = found.codebook.astype(np.float32)[found.indices].reshape(len(found.scale), -1)
    decoded: F32 = found.scale.astype(np.float32)[:, None] * values
    return decoded


def _importance(columns: int, importance: F32 | None) -> F32:
    if importance is None or not importance.any():
        return np.ones(columns, np.float32)
    relative: F32 = (importance / importance.mean(dtype=np.float64)).astype(np.float32)
    return relative


def _first_scales(codebook: I8, rows: F32) -> F16:
    """[rows]: at which the points spread as the row's weights do."""
    root = np.sqrt(np.square(rows, dtype=np.float64).mean(axis=1))
    spread = np.sqrt(np.square(codebook, dtype=np.float64).mean())
    scales: F16 = (root / spread if spread > 0 else root).astype(np.float16)
    return scales


def _vectors(scheme: ProductScheme, rows: F32, importance: F32 | None) -> tuple[F32, F32]:
    """[n, dimensions] of rows over their root mean square, and their weights."""
    columns = rows.shape[1]
    if columns % scheme.dimensions:
        raise CannotEncode(f"rows of {columns} weights are no whole vectors of {scheme.dimensions}")
    if importance is not None and importance.shape != (columns,):
        raise CannotEncode(f"importance has shape {importance.shape}; rows have {columns} weights")
    if not np.isfinite(rows).all():
        raise CannotEncode("weights must be finite")
    root = np.sqrt(np.square(rows, dtype=np.float64).mean(axis=1, keepdims=True)).astype(np.float32)
    relative = np.divide(rows, root, out=np.zeros_like(rows), where=root > 0)
    weight = np.broadcast_to(_importance(columns, importance), rows.shape)
    shape = (-1, scheme.dimensions)
    return relative.reshape(shape), np.ascontiguousarray(weight).reshape(shape)
