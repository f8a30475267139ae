"""Q6_K: 16 groups of 16 codes of 6 bits around zero, with a signed 8-bit scale each.

Block: 128 bytes with the low four bits: of each 128 codes, code i below code i + 64; 64 bytes with the high
two bits: of each 128 codes, codes i, i + 32, i + 64 and i + 96 from the lowest bits up; 16 x int8 group
scales; f16 scale.
"""

from __future__ import annotations

import numpy as np

from quant.formats import given
from quant.formats.bits import above, fold, half_bytes, halves, high, join, split, unfold
from quant.formats.format import U8, Blocks, Format


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 210]."""
    return join(
        fold(blocks.codes, bits=4, lanes=64),
        fold(high(blocks.codes, 4), bits=2, lanes=32),
        given.scales(blocks).view(np.uint8),
        half_bytes(blocks.scale),
    )


def unpack(data: U8) -> Blocks:
    """uint8 [n, 210] ->."""
    rest, top, scales, scale = split(data, 128, 64, 16, 2)
    return Blocks(
        codes=above(unfold(top, bits=2, lanes=32), 4, unfold(rest, bits=4, lanes=64)),
        scale=halves(scale),
        scales=np.ascontiguousarray(scales).view(np.int8),
    )


Q6_K = Format(
    name="q6_k",
    ggml_type=14,
    block=256,
    block_bytes=210,
    group=16,
    levels=tuple(range(-32, 32)),
    pack=pack,
    unpack=unpack,
    scale_range=(-128, 127),
)
