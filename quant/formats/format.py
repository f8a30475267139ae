"""What a block format is: a grid of values, and how blocks of codes lie in bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I8 = NDArray[np.int8]
F16 = NDArray[np.float16]
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Blocks:
    """``n`` blocks of one format, unpacked.

    A weight of group ``g`` with code ``c`` stands for

        (float32(scale) * scales[g]) * levels[c] - float32(minimum) * minima[g]

    in float32, each operation rounded by itself, in this order. A format that has no group scales within its
    block has no ``scales`` and ``minima`` (they count as 1); one without minima has no ``minimum``.
    """

    codes: U8
    """[n, block]: indices into the format's levels."""
    scale: F16
    """[n]"""
    minimum: F16 | None = None
    """[n]"""
    scales: I8 | None = None
    """[n, groups]: integers within the format's ``scale_range``."""
    minima: U8 | None = None
    """[n, groups]: integers from 0 to ``minima_high``."""


@dataclass(frozen=True, slots=True)
class Format:
    """A block format of ggml, as data: the encoders know nothing else about it."""

    name: str
    """As a person types it: ``"q4_k"``."""
    ggml_type: int
    """Its number in a GGUF file."""
    block: int
    """Weights in a block; the length of a row must be a multiple."""
    block_bytes: int
    group: int
    """Weights that share a scale; divides ``block``."""
    levels: tuple[int, ...]
    """The integers that codes 0, 1, ... stand for, ascending."""
    pack: Callable[[Blocks], U8]
    """Blocks -> uint8 [n, block_bytes]."""
    unpack: Callable[[U8], Blocks]
    """uint8 [n, block_bytes] -> blocks; the inverse of ``pack`` for every byte string."""
    affine: bool = False
    """Whether groups have a minimum."""
    scale_range: tuple[int, int] | None = None
    """Lowest and highest group scale, for formats that have them within a block."""
    minima_high: int | None = None
    """Highest group minimum, for formats that have them within a block."""

    @property
    def bits_per_weight(self) -> float:
        """Bits of storage for one weight, scales included."""
        return 8 * self.block_bytes / self.block

    @property
    def input_block(self) -> int:
        """Values of an input that share a scale where products with such weights round it to bytes, in ggml
        and here: Q8_K for formats of 256, Q8_0 or Q8_1 for all others."""
        return 256 if self.block == 256 else 32

    @property
    def groups(self) -> int:
        """Groups in a block."""
        return self.block // self.group

    @property
    def uniform(self) -> bool:
        """Whether the levels are consecutive integers."""
        return self.levels[-1] - self.levels[0] == len(self.levels) - 1

    def fits(self, columns: int) -> bool:
        """Whether rows of ``columns`` weights can be stored."""
        return columns > 0 and columns % self.block == 0

    def row_bytes(self, columns: int) -> int:
        """Bytes of a row of ``columns`` weights, a multiple of ``block``."""
        return columns // self.block * self.block_bytes

    def tensor_bytes(self, rows: int, columns: int) -> int:
        """Bytes of a matrix."""
        return rows * self.row_bytes(columns)
