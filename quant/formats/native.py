"""Packing and dequantizing in C++, bit for bit as the formats' own ``pack`` and ``dequantize`` in NumPy.

NaN apart: a scale that is NaN gives NaN in both, of any payload.
"""

from __future__ import annotations

from quant.formats.dequantize import weights_shape, whole_blocks
from quant.formats.format import F32, U8, Blocks, Format
from runtime.kernels.packing import dequantize_blocks, pack_blocks


def pack(fmt: Format, blocks: Blocks) -> U8:
    """As ``fmt.pack``. Raises ValueError for arrays that are no blocks of ``fmt``, or not contiguous."""
    return pack_blocks(
        fmt.ggml_type,
        blocks.codes,
        blocks.scale,
        blocks.minimum,
        blocks.scales,
        blocks.minima,
    )


def dequantize(fmt: Format, data: U8) -> F32:
    """As :func:`quant.formats.dequantize.dequantize`."""
    return dequantize_blocks(fmt.ggml_type, whole_blocks(fmt, data)).reshape(weights_shape(fmt, data))
