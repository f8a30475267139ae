"""Weights -> blocks, in NumPy: plain, and near the best. The encoders search faster and further."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from quant.formats.dequantize import level_values
from quant.formats.format import F32, U8, Blocks, Format

_SHRINKS = np.linspace(1.0, 0.4, 13, dtype=np.float32)
"""Where the search starts: the range of the levels as a part of the range of the weights."""
_REFINEMENTS = 3
"""Least squares after nearest codes, and again."""
_F16_MAX = 65504.0


def nearest_codes(fmt: Format, weights: F32, scales: F32, minima: F32 | None = None) -> U8:
    """Codes of the levels nearest to ``weights``; of two as near the even one, or of IQ4's levels the lower.

    ``weights`` [n, group] of n groups; ``scales`` and ``minima`` [n] in the weights' unit: a weight is near
    ``scales * level - minima``. Where a scale is 0 the codes are those of the level nearest to 0. -> uint8
    [n, group].
    """
    wanted = weights if minima is None else weights + minima[:, None]
    divisor = scales[:, None]
    wanted = np.divide(wanted, divisor, out=np.zeros_like(wanted), where=divisor != 0)
    if fmt.uniform:
        lowest, highest = fmt.levels[0], fmt.levels[-1]
        return (np.rint(np.clip(wanted, lowest, highest)) - lowest).astype(np.uint8)
    levels = np.array(fmt.levels, dtype=np.float32)
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, wanted).astype(np.uint8)


def quantize(fmt: Format, weights: F32, importance: F32 | None = None) -> U8:
    """float32 [rows, columns] -> uint8 [rows, row_bytes], for a small sum of ``importance * error^2``.

    ``importance`` is one factor a column, not below 0 (the mean square of its input); all 1 when missing.
    Raises ValueError when the format does not fit the columns, or a weight is NaN or infinite.
    """
    rows, columns = weights.shape
    if not fmt.fits(columns):
        raise ValueError(f"{fmt.name} stores rows of a multiple of {fmt.block} weights, not {columns}")
    if not np.isfinite(weights).all():
        raise ValueError("the weights hold NaN or infinity")
    factors = np.ones(columns, np.float32) if importance is None else importance.astype(np.float32)
    grouped = weights.astype(np.float32, copy=False).reshape(-1, fmt.group)
    spread = np.broadcast_to(factors, weights.shape).reshape(-1, fmt.group)
    blocks = assemble(fmt, grouped, *_search(fmt, grouped, spread))
    return fmt.pack(blocks).reshape(rows, -1)


def assemble(fmt: Format, weights: F32, scales: F32, minima: F32 | None = None) -> Blocks:
    """Rounds wished-for group scales and minima to what the format stores, then takes the nearest codes.

    ``weights`` [n, group] of all groups of whole blocks; ``scales``, ``minima`` [n].
    """
    scale, stored_scales = _stored(scales.reshape(-1, fmt.groups), fmt.scale_range)
    effective = scale.astype(np.float32)[:, None]
    if stored_scales is not None:
        effective = effective * stored_scales
    minimum = stored_minima = subtracted = None
    if fmt.affine and minima is not None:
        high = None if fmt.minima_high is None else (0, fmt.minima_high)
        minimum, stored_minima = _stored(minima.reshape(-1, fmt.groups), high)
        subtracted = minimum.astype(np.float32)[:, None]
        if stored_minima is not None:
            subtracted = subtracted * stored_minima
        subtracted = subtracted.reshape(-1)
    codes = nearest_codes(fmt, weights, effective.reshape(-1), subtracted)
    return Blocks(
        codes=codes.reshape(-1, fmt.block),
        scale=scale,
        minimum=minimum,
        scales=None if stored_scales is None else stored_scales.astype(np.int8),
        minima=None if stored_minima is None else stored_minima.astype(np.uint8),
    )


def _stored(
    wished: F32, limits: tuple[int, int] | None
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float16]], F32 | None]:
    """[n, groups] -> the block's f16 [n], and the groups' integers where the format has them."""
    if limits is None:
        return np.clip(wished[:, 0], -_F16_MAX, _F16_MAX).astype(np.float16), None
    low, high = limits
    largest = np.take_along_axis(wished, np.abs(wished).argmax(axis=1)[:, None], axis=1)[:, 0]
    # The lowest integer reaches furthest where there are negative ones: the largest scale takes it.
    block = (largest / np.float32(low if low < 0 else high)).clip(-_F16_MAX, _F16_MAX).astype(np.float16)
    divisor = block.astype(np.float32)[:, None]
    integers = np.divide(wished, divisor, out=np.zeros_like(wished), where=divisor != 0)
    return block, np.rint(np.clip(integers, low, high))


def _search(fmt: Format, weights: F32, importance: F32) -> tuple[F32, F32 | None]:
    """Scales (and minima) [n] of the groups, not yet rounded to what the format stores."""
    best_error = np.full(len(weights), np.inf, np.float32)
    best_scale = np.zeros(len(weights), np.float32)
    best_minimum = np.zeros(len(weights), np.float32) if fmt.affine else None
    levels = level_values(fmt)
    for scale, minimum in _starts(fmt, weights):
        for _ in range(_REFINEMENTS):
            chosen = levels[nearest_codes(fmt, weights, scale, minimum)]
            scale, minimum = _least_squares(fmt, weights, importance, chosen)
        chosen = levels[nearest_codes(fmt, weights, scale, minimum)]
        values = scale[:, None] * chosen - (0 if minimum is None else minimum[:, None])
        error = (importance * (weights - values) ** 2).sum(axis=1)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
        if best_minimum is not None and minimum is not None:
            best_minimum = np.where(better, minimum, best_minimum)
    return best_scale, best_minimum


def _starts(fmt: Format, weights: F32) -> Iterator[tuple[F32, F32 | None]]:
    """Pairs of scales and minima [n] to start from."""
    reach = fmt.levels[-1] - fmt.levels[0]
    if fmt.affine:
        low = np.minimum(weights.min(axis=1), 0) if fmt.minima_high else weights.min(axis=1)
        high = weights.max(axis=1)
        for shrink in _SHRINKS:
            middle, half = (low + high) / 2, (high - low) / 2 * shrink
            yield 2 * half / reach, _allowed(fmt, half - middle)
        return
    largest = np.abs(weights).max(axis=1)
    for shrink in _SHRINKS:
        for furthest in {fmt.levels[0], fmt.levels[-1]}:
            yield largest * shrink / np.float32(abs(furthest)), None
            yield largest * shrink / np.float32(-abs(furthest)), None


def _allowed(fmt: Format, minima: F32) -> F32:
    """Minima that the format can store: those within a block have no sign."""
    return np.maximum(minima, 0) if fmt.minima_high else minima


def _least_squares(fmt: Format, weights: F32, importance: F32, levels: F32) -> tuple[F32, F32 | None]:
    """The scales (and minima) [n] with the smallest error for given levels [n, group]."""
    weight_level = (importance * weights * levels).sum(axis=1)
    level_level = (importance * levels * levels).sum(axis=1)
    if not fmt.affine:
        return _quotient(weight_level, level_level), None
    total = importance.sum(axis=1)
    level = (importance * levels).sum(axis=1)
    weight = (importance * weights).sum(axis=1)
    scale = _quotient(weight_level * total - weight * level, level_level * total - level * level)
    minimum = _allowed(fmt, _quotient(scale * level - weight, total))
    if fmt.minima_high:
        scale = np.where(minimum > 0, scale, _quotient(weight_level, level_level))
        scale = np.maximum(scale, 0)
    return scale, minimum


def _quotient(numerator: F32, denominator: F32) -> F32:
    """0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
