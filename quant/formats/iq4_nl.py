"""IQ4_NL: 32 codes of 4 bits for 16 levels that lie closer around zero, and a scale. Block: as Q4_0."""

from __future__ import annotations

from quant.formats.format import Format
from quant.formats.q4_0 import pack, unpack

LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)

IQ4_NL = Format(
    name="iq4_nl",
    ggml_type=20,
    block=32,
    block_bytes=18,
    group=32,
    levels=LEVELS,
    pack=pack,
    unpack=unpack,
)
