"""Q1_0: 128 signs and a scale. Block: f16 scale, 16 bytes, in order; a bit that is set stands for +scale."""

from __future__ import annotations

from quant.formats.bits import fold, half_bytes, halves, join, split, unfold
from quant.formats.format import U8, Blocks, Format


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 18]."""
    return join(half_bytes(blocks.scale), fold(blocks.codes, bits=1, lanes=1))


def unpack(data: U8) -> Blocks:
    """uint8 [n, 18] ->."""
    scale, codes = split(data, 2, 16)
    return Blocks(codes=unfold(codes, bits=1, lanes=1), scale=halves(scale))


Q1_0 = Format(
    name="q1_0",
    ggml_type=41,
    block=128,
    block_bytes=18,
    group=128,
    levels=(-1, 1),
    pack=pack,
    unpack=unpack,
)
