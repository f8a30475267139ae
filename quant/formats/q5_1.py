"""Q5_1: 32 codes of 5 bits, a scale and a minimum. Block: f16 scale, f16 m, then as Q5_0.

The file holds what is added, ``m``; blocks hold what is subtracted, ``minimum = -m``, exact in f16.
"""

from __future__ import annotations

from quant.formats import given
from quant.formats.bits import above, fold, half_bytes, halves, high, join, negated, split, unfold
from quant.formats.format import U8, Blocks, Format


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 24]."""
    added = half_bytes(negated(given.minimum(blocks)))
    top = fold(high(blocks.codes, 4), bits=1, lanes=1)
    return join(half_bytes(blocks.scale), added, top, fold(blocks.codes, bits=4, lanes=16))


def unpack(data: U8) -> Blocks:
    """uint8 [n, 24] ->."""
    scale, added, top, rest = split(data, 2, 2, 4, 16)
    codes = above(unfold(top, bits=1, lanes=1), 4, unfold(rest, bits=4, lanes=16))
    return Blocks(codes=codes, scale=halves(scale), minimum=negated(halves(added)))


Q5_1 = Format(
    name="q5_1",
    ggml_type=7,
    block=32,
    block_bytes=24,
    group=32,
    levels=tuple(range(32)),
    pack=pack,
    unpack=unpack,
    affine=True,
)
