"""Q3_K: 16 groups of 16 codes of 3 bits around zero, with a signed 6-bit scale each.

Block: 32 bytes, byte i with the highest bits of codes i, i + 32, ... i + 224; 64 bytes with the low two bits:
of each 128 codes, codes i, i + 32, i + 64 and i + 96; 8 bytes with the low four bits of scale i below those
of scale i + 8; 4 bytes with the high two bits of scales i, i + 4, i + 8 and i + 12; f16 scale. The first
named takes the lowest bits. A group's scale is stored plus 32.
"""

from __future__ import annotations

import numpy as np

from quant.formats import given
from quant.formats.bits import above, fold, half_bytes, halves, high, join, split, unfold
from quant.formats.format import U8, Blocks, Format

_SCALE_ZERO = np.uint8(32)


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 110]."""
    scales = given.scales(blocks).view(np.uint8) + _SCALE_ZERO
    return join(
        fold(high(blocks.codes, 2), bits=1, lanes=32),
        fold(blocks.codes, bits=2, lanes=32),
        fold(scales, bits=4, lanes=8),
        fold(high(scales, 4), bits=2, lanes=4),
        half_bytes(blocks.scale),
    )


def unpack(data: U8) -> Blocks:
    """uint8 [n, 110] ->."""
    top, rest, scales_rest, scales_top, scale = split(data, 32, 64, 8, 4, 2)
    scales = above(unfold(scales_top, bits=2, lanes=4), 4, unfold(scales_rest, bits=4, lanes=8))
    return Blocks(
        codes=above(unfold(top, bits=1, lanes=32), 2, unfold(rest, bits=2, lanes=32)),
        scale=halves(scale),
        scales=(scales - _SCALE_ZERO).view(np.int8),
    )


Q3_K = Format(
    name="q3_k",
    ggml_type=11,
    block=256,
    block_bytes=110,
    group=16,
    levels=tuple(range(-4, 4)),
    pack=pack,
    unpack=unpack,
    scale_range=(-32, 31),
)
