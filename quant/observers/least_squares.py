"""Parameters of one array with a small weighted squared error."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from quant.errors import InvalidScheme
from quant.observers.granularity import parameter_shape, to_rows
from quant.observers.minmax import required
from quant.observers.qparams import PIECE, QParams, joined, nearest_codes, pieces
from quant.observers.scheme import Scheme
from quant.observers.search import least_error
from quant.observers.values import F32, F64, SMALLEST_SCALE, finite

_REFITS = 3
"""Times that scales are solved for the codes they gave."""


def least_squares_qparams(x: ArrayLike, scheme: Scheme, importance: ArrayLike | None = None) -> QParams:
    """Parameters with a small sum of ``importance * (x - fake_quantize(x))**2``, for each of them.

    ``importance`` is not negative and broadcasts to the shape of ``x``; for weights, the mean squares of
    their inputs. Ranges are tried, then scales solved for the codes found: ``<w x q> / <w q q>``. Never worse
    than the full range. Empty, not finite or misshapen arrays raise as in an observer.
    """
    values = finite(x)
    shape = parameter_shape(scheme.granularity, values.shape)
    required(values if values.size else None)
    rows = to_rows(scheme.granularity, values)
    weights = None if importance is None else to_rows(scheme.granularity, _weights(importance, values.shape))
    found = []
    tall = max(1, PIECE // rows.shape[1])
    for row in range(0, len(rows), tall):
        part = rows[row : row + tall]
        of_part = None if weights is None else weights[row : row + tall]
        found.append(_least_squares(part, of_part, scheme))
    return joined(found, shape)


def squared_error(rows: F32, weights: F32 | None, qparams: QParams) -> F64:
    """[P]: weighted sums of squared errors of ``rows``, [P, n], quantized with ``qparams``, [P]."""
    error = np.zeros(len(rows))
    for part, x, w, q, scale in _quantized(rows, weights, qparams):
        error[part] += (w * (x - scale * q) ** 2).sum(axis=1)
    return error


def _least_squares(rows: F32, weights: F32 | None, scheme: Scheme) -> QParams:
    low, high = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
    best = least_error(scheme, low, high, partial(squared_error, rows, weights))
    least = squared_error(rows, weights, best)
    for _ in range(_REFITS):
        tried = QParams(scheme, _solved(rows, weights, best), best.zero_point)
        found = squared_error(rows, weights, tried)
        better = found < least
        if not better.any():
            break
        best = QParams(scheme, np.where(better, tried.scale, best.scale), best.zero_point)
        least = np.where(better, found, least)
    return best


def _solved(rows: F32, weights: F32 | None, qparams: QParams) -> F32:
    """[P]: the scales that suit the codes best; those of ``qparams`` where all codes are zero."""
    above, below = np.zeros(len(rows)), np.zeros(len(rows))
    for part, x, w, q, _ in _quantized(rows, weights, qparams):
        above[part] += (w * x * q).sum(axis=1)
        below[part] += (w * q * q).sum(axis=1)
    scale = np.divide(above, below, out=qparams.scale.astype(np.float64), where=below > 0)
    return np.maximum(scale.astype(np.float32), SMALLEST_SCALE)


def _quantized(
    rows: F32, weights: F32 | None, qparams: QParams
) -> Iterator[tuple[slice, F64, F64, F64, F64]]:
    """Piece by piece: its rows, values, weights, codes less the zero point, and scales, [p, 1]."""
    for part in pieces(*rows.shape):
        own = part[0], None
        scale = qparams.scale.astype(np.float64)[own]
        zero_point = qparams.zero_point.astype(np.float64)[own]
        x = rows[part].astype(np.float64)
        w = np.ones((1, 1)) if weights is None else weights[part].astype(np.float64)
        yield part[0], x, w, nearest_codes(x, scale, zero_point, qparams.scheme) - zero_point, scale


def _weights(importance: ArrayLike, shape: tuple[int, ...]) -> F32:
    weights = finite(importance)
    if (weights < 0).any():
        raise InvalidScheme(f"an importance is {weights.min():g}; none may be negative")
    try:
        return np.broadcast_to(weights, shape)
    except ValueError:
        raise InvalidScheme(
            f"importance of shape {list(weights.shape)} does not broadcast to the array's {list(shape)}"
        ) from None
