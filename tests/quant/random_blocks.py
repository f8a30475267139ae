"""Blocks and bytes of any format, drawn at random, with every hard scale among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quant.formats.format import Blocks, Format

HARD_HALVES = np.array(
    [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0xFD55],
    dtype=np.uint16,
).view(np.float16)
"""Both zeros, subnormals, the smallest normal, the largest, infinities, NaNs."""


def random_bytes(fmt: Format, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """[count, block_bytes]."""
    return np.random.default_rng(seed).integers(0, 256, (count, fmt.block_bytes), dtype=np.uint8)


def random_blocks(fmt: Format, count: int, seed: int = 0, *, hard: bool = False) -> Blocks:
    """``count`` blocks within the format's ranges; ``hard`` ones have scales of :data:`HARD_HALVES`."""
    rng = np.random.default_rng(seed)

    def halves() -> NDArray[np.float16]:
        return rng.choice(HARD_HALVES, count) if hard else rng.normal(0, 0.02, count).astype(np.float16)

    groups = (count, fmt.groups)
    low, high = fmt.scale_range or (0, 0)
    return Blocks(
        codes=rng.integers(0, len(fmt.levels), (count, fmt.block), dtype=np.uint8),
        scale=halves(),
        minimum=halves() if fmt.affine else None,
        scales=rng.integers(low, high + 1, groups, dtype=np.int8) if fmt.scale_range else None,
        minima=None
        if fmt.minima_high is None
        else rng.integers(0, fmt.minima_high + 1, groups, dtype=np.uint8),
    )


def same_blocks(a: Blocks, b: Blocks) -> bool:
    """Whether every field has the same bits."""
    pairs = [
        (getattr(a, name), getattr(b, name)) for name in ("codes", "scale", "minimum", "scales", "minima")
    ]
    return all(
        x is y is None
        or (x is not None and y is not None and x.shape == y.shape and x.tobytes() == y.tobytes())
        for x, y in pairs
    )
