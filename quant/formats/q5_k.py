"""Q5_K: 8 groups of 32 codes of 5 bits, with a 6-bit scale and a 6-bit minimum each.

Block: f16 scale; f16 minimum; 12 bytes of group scales and minima (``k_scales``); 32 bytes with the highest
bit of code i of group g in bit g of byte i; 128 bytes with the low four bits: of each 64 codes, code i below
code i + 32.
"""

from __future__ import annotations

from quant.formats import given
from quant.formats.bits import above, fold, half_bytes, halves, high, join, split, unfold
from quant.formats.format import U8, Blocks, Format
from quant.formats.k_scales import MINIMA_HIGH, SCALE_RANGE, pack_scales, unpack_scales


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 176]."""
    return join(
        half_bytes(blocks.scale),
        half_bytes(given.minimum(blocks)),
        pack_scales(given.scales(blocks), given.minima(blocks)),
        fold(high(blocks.codes, 4), bits=1, lanes=32),
        fold(blocks.codes, bits=4, lanes=32),
    )


def unpack(data: U8) -> Blocks:
    """uint8 [n, 176] ->."""
    scale, minimum, packed, top, rest = split(data, 2, 2, 12, 32, 128)
    scales, minima = unpack_scales(packed)
    return Blocks(
        codes=above(unfold(top, bits=1, lanes=32), 4, unfold(rest, bits=4, lanes=32)),
        scale=halves(scale),
        minimum=halves(minimum),
        scales=scales,
        minima=minima,
    )


Q5_K = Format(
    name="q5_k",
    ggml_type=13,
    block=256,
    block_bytes=176,
    group=32,
    levels=tuple(range(32)),
    pack=pack,
    unpack=unpack,
    affine=True,
    scale_range=SCALE_RANGE,
    minima_high=MINIMA_HIGH,
)
