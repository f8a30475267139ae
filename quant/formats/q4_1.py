"""Q4_1: 32 codes of 4 bits, a scale and a minimum.

Block: f16 scale; f16 m; 16 bytes, code i below code i + 16. The file holds what is added, ``m``; blocks
hold what is subtracted, ``minimum = -m``, exact in f16.
"""

from __future__ import annotations

from quant.formats import given
from quant.formats.bits import fold, half_bytes, halves, join, negated, split, unfold
from quant.formats.format import U8, Blocks, Format


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 20]."""
    added = half_bytes(negated(given.minimum(blocks)))
    return join(half_bytes(blocks.scale), added, fold(blocks.codes, bits=4, lanes=16))


def unpack(data: U8) -> Blocks:
    """uint8 [n, 20] ->."""
    scale, added, codes = split(data, 2, 2, 16)
    return Blocks(codes=unfold(codes, bits=4, lanes=16), scale=halves(scale), minimum=negated(halves(added)))


Q4_1 = Format(
    name="q4_1",
    ggml_type=3,
    block=32,
    block_bytes=20,
    group=32,
    levels=tuple(range(16)),
    pack=pack,
    unpack=unpack,
    affine=True,
)
