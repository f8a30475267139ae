"""The 12 bytes in which Q4_K and Q5_K keep eight group scales and eight group minima of 6 bits.

Bytes 0 to 3 hold scales 0 to 3, bytes 4 to 7 minima 0 to 3, each in the low six bits. Bytes 8 to 11 hold the
low four bits of scales 4 to 7 below those of minima 4 to 7; their two high bits lie above scales 0 to 3 and
minima 0 to 3.
"""

from __future__ import annotations

import numpy as np

from quant.formats.bits import above, high, join, low
from quant.formats.format import I8, U8

SCALE_RANGE = (0, 63)
MINIMA_HIGH = 63


def pack_scales(scales: I8, minima: U8) -> U8:
    """[n, 8] and [n, 8] -> [n, 12]."""
    scale = scales.view(np.uint8)
    return join(
        above(high(scale[:, 4:], 4), 6, low(scale[:, :4], 6)),
        above(high(minima[:, 4:], 4), 6, low(minima[:, :4], 6)),
        above(minima[:, 4:], 4, low(scale[:, 4:], 4)),
    )


def unpack_scales(data: U8) -> tuple[I8, U8]:
    """[n, 12] -> [n, 8] and [n, 8]."""
    first, second, third = data[:, :4], data[:, 4:8], data[:, 8:]
    scales = join(low(first, 6), above(high(first, 6), 4, low(third, 4)))
    minima = join(low(second, 6), above(high(second, 6), 4, high(third, 4)))
    return scales.view(np.int8), minima
