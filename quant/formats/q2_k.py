"""Q2_K: 16 groups of 16 codes of 2 bits, with a 4-bit scale and a 4-bit minimum each.

Block: 16 bytes, a group's scale below its minimum; 64 bytes: of each 128 codes, codes i, i + 32, i + 64 and
i + 96 from the lowest bits up; f16 scale, f16 minimum.
"""

from __future__ import annotations

import numpy as np

from quant.formats import given
from quant.formats.bits import above, fold, half_bytes, halves, high, join, low, split, unfold
from quant.formats.format import U8, Blocks, Format


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 84]."""
    return join(
        above(given.minima(blocks), 4, low(given.scales(blocks).view(np.uint8), 4)),
        fold(blocks.codes, bits=2, lanes=32),
        half_bytes(blocks.scale),
        half_bytes(given.minimum(blocks)),
    )


def unpack(data: U8) -> Blocks:
    """uint8 [n, 84] ->."""
    groups, codes, scale, minimum = split(data, 16, 64, 2, 2)
    return Blocks(
        codes=unfold(codes, bits=2, lanes=32),
        scale=halves(scale),
        minimum=halves(minimum),
        scales=low(groups, 4).view(np.int8),
        minima=high(groups, 4),
    )


Q2_K = Format(
    name="q2_k",
    ggml_type=10,
    block=256,
    block_bytes=84,
    group=16,
    levels=(0, 1, 2, 3),
    pack=pack,
    unpack=unpack,
    affine=True,
    scale_range=(0, 15),
    minima_high=15,
)
