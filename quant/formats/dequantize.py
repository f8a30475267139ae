"""Codes -> float32 weights in NumPy: the reference, each operation rounded as ``Blocks`` says."""

from __future__ import annotations

import numpy as np

from quant.formats.format import F32, U8, Blocks, Format


def level_values(fmt: Format) -> F32:
    """What every code that the block's bits can hold stands for, a power of two of them.

    Where files may hold codes past the last level (TQ2_0's fourth), uniform levels go on, as ggml reads them.
    """
    stored = 1 << (len(fmt.levels) - 1).bit_length()
    beyond = range(fmt.levels[-1] + 1, fmt.levels[0] + stored) if fmt.uniform else ()
    return np.array([*fmt.levels, *beyond], dtype=np.float32)


def values(fmt: Format, blocks: Blocks) -> F32:
    """[n, block]: the weights that ``blocks`` stand for."""
    n = len(blocks.codes)
    codes = blocks.codes.reshape(n, fmt.groups, fmt.group)
    with np.errstate(invalid="ignore"):  # a damaged file's infinite scale times 0 is NaN here as in ggml
        scale = blocks.scale.astype(np.float32)[:, None]
        if blocks.scales is not None:
            scale = scale * blocks.scales.astype(np.float32)
        weights = scale[:, :, None] * level_values(fmt)[codes]
        if blocks.minimum is not None:
            minimum = blocks.minimum.astype(np.float32)[:, None]
            if blocks.minima is not None:
                minimum = minimum * blocks.minima.astype(np.float32)
            weights = weights - minimum[:, :, None]
    return weights.reshape(n, fmt.block)


def dequantize(fmt: Format, data: U8) -> F32:
    """uint8 [..., bytes] -> float32 [..., weights], bit for bit as libggml's ``dequantize_row_*``.

    ``bytes`` is a multiple of the format's ``block_bytes``; ValueError when it is not. Every byte string has
    values; a scale that is NaN gives NaN.
    """
    return values(fmt, fmt.unpack(whole_blocks(fmt, data))).reshape(weights_shape(fmt, data))


def whole_blocks(fmt: Format, data: U8) -> U8:
    """uint8 [..., bytes] -> contiguous [n, block_bytes]; ValueError when rows do not end with a block."""
    if data.shape[-1] % fmt.block_bytes:
        raise ValueError(
            f"rows of {data.shape[-1]} bytes are not {fmt.name}: a block has {fmt.block_bytes} bytes"
        )
    return np.ascontiguousarray(data).reshape(data.size // fmt.block_bytes, fmt.block_bytes)


def weights_shape(fmt: Format, data: U8) -> tuple[int, ...]:
    """[..., bytes] -> [..., weights]."""
    return *data.shape[:-1], data.shape[-1] // fmt.block_bytes * fmt.block
