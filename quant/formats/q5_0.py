"""Q5_0: 32 codes of 5 bits around zero and a scale.

Block: f16 scale; 4 bytes with the highest bit of code i in bit i; 16 bytes with the low four bits of code i
below those of code i + 16.
"""

from __future__ import annotations

from quant.formats.bits import above, fold, half_bytes, halves, high, join, split, unfold
from quant.formats.format import U8, Blocks, Format


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 22]."""
    top = fold(high(blocks.codes, 4), bits=1, lanes=1)
    return join(half_bytes(blocks.scale), top, fold(blocks.codes, bits=4, lanes=16))


def unpack(data: U8) -> Blocks:
    """uint8 [n, 22] ->."""
    scale, top, rest = split(data, 2, 4, 16)
    codes = above(unfold(top, bits=1, lanes=1), 4, unfold(rest, bits=4, lanes=16))
    return Blocks(codes=codes, scale=halves(scale))


Q5_0 = Format(
    name="q5_0",
    ggml_type=6,
    block=32,
    block_bytes=22,
    group=32,
    levels=tuple(range(-16, 16)),
    pack=pack,
    unpack=unpack,
)
