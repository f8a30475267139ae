"""Float32 as the lanes of the kernel have it, and rounding to fp16: fit/half.h in NumPy."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quant.formats.format import F32

Mask: TypeAlias = NDArray[np.bool_]
F = np.float32
"""Every number is a float32: Python's own would be rounded later."""

HALF_MAX, HALF_TINY, HALF_NORMAL = F(65504.0), F(2.0**-24), F(2.0**-14)


def choose(mask: Mask, yes: F32 | np.float32, no: F32 | np.float32) -> F32:
    return np.where(mask, yes, no)


def smaller(a: F32, b: F32 | np.float32) -> F32:
    return choose(a < b, a, b)


def larger(a: F32, b: F32 | np.float32) -> F32:
    return choose(a > b, a, b)


def magnitude(value: F32) -> F32:
    return larger(value, -value)


def with_sign_of(size: F32, sign: F32) -> F32:
    return choose(sign < F(0), -size, size)


def inverse(scale: F32) -> F32:
    return choose(magnitude(scale) < F(1e-30), F(0), F(1) / scale)


def ratio(a: F32, b: F32) -> F32:
    """a / b where b is above 0, else 0."""
    return choose(b > F(0), a / choose(b > F(0), b, F(1)), F(0))


def half_binade(size: F32) -> F32:
    power = (size.view(np.int32) & np.int32(0x7F800000)).view(np.float32)
    return larger(power, HALF_NORMAL)


def round_to_half(value: F32) -> F32:
    size = smaller(magnitude(value), HALF_MAX)
    magic = half_binade(size) * F(1.5 * 8192)
    return with_sign_of((size + magic) - magic, value)


def round_to_half_but_zero(value: F32) -> F32:
    half = round_to_half(value)
    tiny = choose(value == F(0), F(0), with_sign_of(np.full_like(value, HALF_TINY), value))
    return choose(half == F(0), tiny, half)


def move_half(half: F32, steps: int) -> F32:
    size = magnitude(half)
    moved = size + half_binade(size) * F(2.0**-10) * F(steps)
    return with_sign_of(smaller(larger(moved, F(0)), HALF_MAX), half)
