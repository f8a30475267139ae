"""Q2_0: 64 codes of 2 bits for the levels -1, 0, 1, 2, and a scale. Block: f16 scale, 16 bytes, in order.

A negative scale turns the levels into 1, 0, -1, -2.
"""

from __future__ import annotations

from quant.formats.bits import fold, half_bytes, halves, join, split, unfold
from quant.formats.format import U8, Blocks, Format


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 18]."""
    return join(half_bytes(blocks.scale), fold(blocks.codes, bits=2, lanes=1))


def unpack(data: U8) -> Blocks:
    """uint8 [n, 18] ->."""
    scale, codes = split(data, 2, 16)
    return Blocks(codes=unfold(codes, bits=2, lanes=1), scale=halves(scale))


Q2_0 = Format(
    name="q2_0",
    ggml_type=42,
    block=64,
    block_bytes=18,
    group=64,
    levels=(-1, 0, 1, 2),
    pack=pack,
    unpack=unpack,
)
