"""How ggml lays codes of a few bits into bytes: pure NumPy, shared by the formats.

Almost every layout of ggml is one pattern with two numbers. The codes of a block are cut into pieces of
``lanes * 8 / bits``; a piece is stored in ``lanes`` bytes; the first ``lanes`` codes take the lowest ``bits``
bits of them, the next ``lanes`` codes the bits above, and so on.
"""

from __future__ import annotations

import numpy as np

from quant.formats.format import F16, U8


def fold(codes: U8, bits: int, lanes: int) -> U8:
    """[n, count] codes, of which the lowest ``bits`` bits count -> [n, count * bits / 8] bytes."""
    n, count = codes.shape
    planes = 8 // bits
    pieces = low(codes, bits).reshape(n, count // (planes * lanes), planes, lanes)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    folded: U8 = np.bitwise_or.reduce(pieces << shifts, axis=2)
    return folded.reshape(n, count // planes)


def unfold(data: U8, bits: int, lanes: int) -> U8:
    """[n, bytes] -> [n, bytes * 8 / bits] codes; the inverse of :func:`fold`."""
    n, count = data.shape
    pieces = data.reshape(n, count // lanes, 1, lanes)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    return low(pieces >> shifts, bits).reshape(n, count * 8 // bits)


def low(data: U8, bits: int) -> U8:
    """The lowest ``bits`` bits of each."""
    return data & np.uint8((1 << bits) - 1)


def high(data: U8, bits: int) -> U8:
    """What is above the lowest ``bits`` bits of each."""
    return data >> np.uint8(bits)


def above(data: U8, bits: int, below: U8) -> U8:
    """``data`` above the lowest ``bits`` bits, which are those of ``below``; what does not fit is lost."""
    return data << np.uint8(bits) | below


def half_bytes(values: F16) -> U8:
    """[n] -> [n, 2], little-endian."""
    return values.astype("<f2", copy=False).reshape(-1, 1).view(np.uint8)


def halves(data: U8) -> F16:
    """[n, 2] -> [n]; the bits stay as they are, those of NaN too."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float16, copy=False).reshape(-1)


def negated(values: F16) -> F16:
    """The sign bit of each turned over: exact, its own inverse, also for zeros and NaN."""
    return (values.view(np.uint16) ^ np.uint16(0x8000)).view(np.float16)


def join(*parts: U8) -> U8:
    """Parts of a block, each [n, bytes], in the order in which they lie."""
    return np.concatenate(parts, axis=1)


def split(data: U8, *sizes: int) -> list[U8]:
    """The inverse of :func:`join`: ``sizes`` are the bytes of each part."""
    return np.split(data, np.cumsum(sizes)[:-1], axis=1)
