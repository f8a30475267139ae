"""Quantization parameters: scales and zero points, and what they do to an array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.errors import InvalidScheme
from quant.observers.granularity import from_rows, parameter_shape, to_rows
from quant.observers.scheme import Scheme
from quant.observers.values import F32, F64, I32, SMALLEST_SCALE, finite

Codes = NDArray[np.integer[Any]]

PIECE = 1 << 20
"""Values computed at a time in float64: bounds the memory that a large array takes beside itself."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class QParams:
    """Scales and zero points of a scheme; both of the granularity's parameter shape."""

    scheme: Scheme
    scale: F32
    """Positive, and no smaller than the smallest normal float32."""
    zero_point: I32
    """The code of 0.0; from ``scheme.lowest`` to ``scheme.highest``."""


def qparams_of_range(scheme: Scheme, low: ArrayLike, high: ArrayLike) -> QParams:
    """The parameters that map ``[low, high]``, widened to hold zero, onto all codes.

    ``low`` and ``high`` have the shape of the parameters. Both zero gives the scale 1. A value within the
    range is off by half a step at most, up to the rounding of the scale to float32.
    Source: Jacob et al., arXiv 1712.05877, section 2.1; Krishnamoorthi, arXiv 1806.08342, section 2.
    """
    low_64 = np.minimum(np.asarray(low, np.float64), 0.0)
    high_64 = np.maximum(np.asarray(high, np.float64), 0.0)
    if scheme.symmetric:
        high_64 = np.maximum(-low_64, high_64)
        low_64 = -high_64
    width = high_64 - low_64
    scale = np.clip(width / scheme.steps, SMALLEST_SCALE, _FLOAT32_MAX).astype(np.float32)
    scale = np.where(width == 0, np.float32(1), scale).astype(np.float32)
    if scheme.symmetric:
        zero_point = np.full(scale.shape, scheme.middle, np.int32)
    else:
        offset = np.rint(-low_64 / scale.astype(np.float64))
        zero_point = np.clip(scheme.lowest + offset, scheme.lowest, scheme.highest).astype(np.int32)
    return QParams(scheme, scale, zero_point)


def quantize(x: ArrayLike, qparams: QParams) -> Codes:
    """Codes of ``x``, of its shape and of the scheme's ``dtype``: the nearest, ties to the even one, clipped.

    Raises :class:`NotFinite`, and :class:`InvalidScheme` if ``x`` does not fit the parameters' shape.
    """
    return _by_rows(finite(x), qparams, nearest_codes, qparams.scheme.dtype)


def dequantize(codes: Codes, qparams: QParams) -> F32:
    """``scale * (code - zero_point)``, of the shape of ``codes``; saturates at the largest float32."""
    return _by_rows(codes, qparams, values_of, np.dtype(np.float32))


def fake_quantize(x: ArrayLike, qparams: QParams) -> F32:
    """What is left of ``x`` after :func:`quantize` and :func:`dequantize`."""
    return dequantize(quantize(x, qparams), qparams)


def nearest_codes(rows: NDArray[Any], scale: F64, zero_point: F64, scheme: Scheme) -> F64:
    """Codes of ``rows``, ``[parameters, values]``, as whole float64; ``scale``: ``[parameters, 1]``."""
    return np.clip(np.rint(rows / scale) + zero_point, scheme.lowest, scheme.highest)


def values_of(codes: NDArray[Any], scale: F64, zero_point: F64, _scheme: Scheme) -> F64:
    """Values of ``codes``, ``[parameters, values]``."""
    return np.clip((codes - zero_point) * scale, -_FLOAT32_MAX, _FLOAT32_MAX)


def _by_rows(
    x: NDArray[Any],
    qparams: QParams,
    function: Callable[[NDArray[Any], F64, F64, Scheme], F64],
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """``function`` of the rows of ``x``, a piece at a time."""
    scheme = qparams.scheme
    needed = parameter_shape(scheme.granularity, x.shape)
    if needed != qparams.scale.shape:
        raise InvalidScheme(
            f"an array of shape {list(x.shape)} needs parameters of shape {list(needed)}; "
            f"these have {list(qparams.scale.shape)}"
        )
    rows = to_rows(scheme.granularity, x)
    scale = qparams.scale.astype(np.float64).reshape(-1, 1)
    zero_point = qparams.zero_point.astype(np.float64).reshape(-1, 1)
    result = np.empty(rows.shape, dtype)
    for part in pieces(*rows.shape):
        of_rows = part[:1]
        result[part] = function(rows[part], scale[of_rows], zero_point[of_rows], scheme)
    return from_rows(scheme.granularity, result, x.shape)


def joined(parts: list[QParams], shape: tuple[int, ...]) -> QParams:
    """The parameters of flat parts, one behind another, in ``shape``."""
    scale = np.concatenate([part.scale for part in parts]).reshape(shape)
    zero_point = np.concatenate([part.zero_point for part in parts]).reshape(shape)
    return QParams(parts[0].scheme, scale, zero_point)


def pieces(rows: int, columns: int) -> list[tuple[slice, slice]]:
    """A ``[rows, columns]`` array in blocks of at most ``PIECE`` values."""
    wide = max(1, min(columns, PIECE))
    tall = max(1, PIECE // wide)
    return [
        (slice(row, row + tall), slice(column, column + wide))
        for row in range(0, rows, tall)
        for column in range(0, columns, wide)
    ]
