"""Q8_0: 32 signed bytes and a scale. Block: f16 scale, 32 x int8."""

from __future__ import annotations

import numpy as np

from quant.formats.bits import half_bytes, halves, join, split
from quant.formats.format import U8, Blocks, Format


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 34]."""
    return join(half_bytes(blocks.scale), blocks.codes ^ np.uint8(0x80))  # code 0 is -128


def unpack(data: U8) -> Blocks:
    """uint8 [n, 34] ->."""
    scale, codes = split(data, 2, 32)
    return Blocks(codes=codes ^ np.uint8(0x80), scale=halves(scale))


Q8_0 = Format(
    name="q8_0",
    ggml_type=8,
    block=32,
    block_bytes=34,
    group=32,
    levels=tuple(range(-128, 128)),
    pack=pack,
    unpack=unpack,
)
