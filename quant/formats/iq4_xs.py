"""IQ4_XS: 8 groups of 32 codes for the levels of IQ4_NL, with a signed 6-bit scale each.

Block: f16 scale; 2 bytes with the high two bits of the group scales, from the lowest bits up; 4 bytes with
their low four bits, an even group's below the next one's; 128 bytes: of each 32 codes, code i below code
i + 16. A group's scale is stored plus 32.
"""

from __future__ import annotations

import numpy as np

from quant.formats import given
from quant.formats.bits import above, fold, half_bytes, halves, high, join, split, unfold
from quant.formats.format import U8, Blocks, Format
from quant.formats.iq4_nl import LEVELS

_SCALE_ZERO = np.uint8(32)


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 136]."""
    scales = given.scales(blocks).view(np.uint8) + _SCALE_ZERO
    return join(
        half_bytes(blocks.scale),
        fold(high(scales, 4), bits=2, lanes=1),
        fold(scales, bits=4, lanes=1),
        fold(blocks.codes, bits=4, lanes=16),
    )


def unpack(data: U8) -> Blocks:
    """uint8 [n, 136] ->."""
    scale, scales_top, scales_rest, codes = split(data, 2, 2, 4, 128)
    scales = above(unfold(scales_top, bits=2, lanes=1), 4, unfold(scales_rest, bits=4, lanes=1))
    return Blocks(
        codes=unfold(codes, bits=4, lanes=16),
        scale=halves(scale),
        scales=(scales - _SCALE_ZERO).view(np.int8),
    )


IQ4_XS = Format(
    name="iq4_xs",
    ggml_type=23,
    block=256,
    block_bytes=136,
    group=32,
    levels=LEVELS,
    pack=pack,
    unpack=unpack,
    scale_range=(-32, 31),
)
