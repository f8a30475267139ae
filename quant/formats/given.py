"""Fields of Blocks that a format has for certain, as its packing reads them."""

from __future__ import annotations

from quant.formats.format import F16, I8, U8, Blocks


def minimum(blocks: Blocks) -> F16:
    """[n]. Raises ValueError when the blocks are of a format without minima."""
    if blocks.minimum is None:
        raise ValueError("these blocks have no minimum; they are of another format")
    return blocks.minimum


def scales(blocks: Blocks) -> I8:
    """[n, groups]. Raises ValueError when the blocks are of a format without group scales."""
    if blocks.scales is None:
        raise ValueError("these blocks have no group scales; they are of another format")
    return blocks.scales


def minima(blocks: Blocks) -> U8:
    """[n, groups]. Raises ValueError when the blocks are of a format without group minima."""
    if blocks.minima is None:
        raise ValueError("these blocks have no group minima; they are of another format")
    return blocks.minima
