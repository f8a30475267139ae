"""Q4_0: 32 codes of 4 bits around zero and a scale. Block: f16 scale, 16 bytes; code i below code i + 16."""

from __future__ import annotations

from quant.formats.bits import fold, half_bytes, halves, join, split, unfold
from quant.formats.format import U8, Blocks, Format


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 18]."""
    return join(half_bytes(blocks.scale), fold(blocks.codes, bits=4, lanes=16))


def unpack(data: U8) -> Blocks:
    """uint8 [n, 18] ->."""
    scale, codes = split(data, 2, 16)
    return Blocks(codes=unfold(codes, bits=4, lanes=16), scale=halves(scale))


Q4_0 = Format(
    name="q4_0",
    ggml_type=2,
    block=32,
    block_bytes=18,
    group=32,
    levels=tuple(range(-8, 8)),
    pack=pack,
    unpack=unpack,
)
