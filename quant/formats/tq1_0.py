"""TQ1_0: 256 ternary codes, five in a byte, and a scale.

Block: 32 bytes for codes 0 to 159, 16 bytes for codes 160 to 239, 4 bytes for codes 240 to 255 (four in a
byte); f16 scale. The codes of a byte lie as far apart as its part has bytes, the first one the highest digit.

A byte holds the fraction 0.c0c1c2c3c4 in base 3 (the last digit of the third part is 0) times 256, rounded
up: three times it, the carry out of 8 bits is the first digit, and so on. So 243 values of 256 are written
(81 in the third part); ggml reads the others too, and so does ``unpack``, which there has no inverse.
"""

from __future__ import annotations

import numpy as np

from quant.formats.bits import half_bytes, halves, join, split
from quant.formats.format import U8, Blocks, Format

_PARTS = ((32, 5), (16, 5), (4, 4))
"""Bytes, and codes in each."""


def pack(blocks: Blocks) -> U8:
    """-> uint8 [n, 54]."""
    packed: list[U8] = []
    start = 0
    for size, digits in _PARTS:
        part = blocks.codes[:, start : start + size * digits].reshape(len(blocks.codes), digits, size)
        start += size * digits
        worth = np.array([3 ** (4 - i) for i in range(digits)], dtype=np.uint16)[:, None]
        number = (part * worth).sum(axis=1, dtype=np.uint16)
        packed.append(((number * 256 + 242) // 243).astype(np.uint8))
    return join(*packed, half_bytes(blocks.scale))


def unpack(data: U8) -> Blocks:
    """uint8 [n, 54] ->."""
    *parts, scale = split(data, *(size for size, _ in _PARTS), 2)
    codes: list[U8] = []
    for part, (_, digits) in zip(parts, _PARTS, strict=True):
        rest = part
        for _ in range(digits):
            tripled = rest.astype(np.uint16) * 3
            codes.append((tripled >> 8).astype(np.uint8))
            rest = tripled.astype(np.uint8)
    return Blocks(codes=join(*codes), scale=halves(scale))


TQ1_0 = Format(
    name="tq1_0",
    ggml_type=34,
    block=256,
    block_bytes=54,
    group=256,
    levels=(-1, 0, 1),
    pack=pack,
    unpack=unpack,
)
