"""TQ2_0: 256 ternary codes in 2 bits each and a scale.

Block: 64 bytes: of each 128 codes, codes i, i + 32, i + 64 and i + 96 from the lowest bits up; f16 scale.
The bits hold a fourth code, which ggml reads as 2 and warns of writing; here it is read alike, never written.
"""

from __future__ import annotations

from quant.formats.bits import fold, half_bytes, halves, join, split, unfold
from quant.formats.format import U8, Blocks, Format


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 66]."""
    return join(fold(blocks.codes, bits=2, lanes=32), half_bytes(blocks.scale))


def unpack(data: U8) -> Blocks:
    """uint8 [n, 66] ->."""
    codes, scale = split(data, 64, 2)
    return Blocks(codes=unfold(codes, bits=2, lanes=32), scale=halves(scale))


TQ2_0 = Format(
    name="tq2_0",
    ggml_type=35,
    block=256,
    block_bytes=66,
    group=256,
    levels=(-1, 0, 1),
    pack=pack,
    unpack=unpack,
)
