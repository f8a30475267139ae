"""How values become integers: width, sign, symmetry, and what shares a scale."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from quant.errors import InvalidScheme
from quant.observers.granularity import Granularity, PerTensor

WIDEST_BITS = 16


@dataclass(frozen=True, slots=True)
class Scheme:
    """``value = scale * (code - zero_point)`` with codes of ``lowest`` to ``highest``.

    Symmetric: the zero point is the middle of the codes (0 if signed, ``2**(bits-1)`` if not), as in PyTorch.
    Affine: it is wherever the range asks for, and always a code, so that zero is exact.
    Raises :class:`InvalidScheme` for a width that leaves no codes.
    """

    bits: int = 8
    """2 to 16; 1 for an affine scheme."""
    signed: bool = True
    symmetric: bool = True
    granularity: Granularity = field(default_factory=PerTensor)
    restricted: bool = True
    """Of a symmetric scheme: leave the lowest code out, so that codes are -127 to 127 and not -128 to 127.
    Then a range and its negative take the same codes; what the 8-bit kernels rely on."""

    def __post_init__(self) -> None:
        fewest = 2 if self.symmetric else 1
        if not fewest <= self.bits <= WIDEST_BITS:
            kind = "symmetric" if self.symmetric else "affine"
            raise InvalidScheme(f"{self.bits} bits for a {kind} scheme; use {fewest} to {WIDEST_BITS}")

    @property
    def lowest(self) -> int:
        """The lowest code."""
        bottom = -(1 << (self.bits - 1)) if self.signed else 0
        return bottom + (self.symmetric and self.restricted)

    @property
    def highest(self) -> int:
        """The highest code."""
        return (1 << (self.bits - self.signed)) - 1

    @property
    def steps(self) -> int:
        """Steps between the lowest and the highest code."""
        return self.highest - self.lowest

    @property
    def middle(self) -> int:
        """The zero point of a symmetric scheme."""
        return 0 if self.signed else 1 << (self.bits - 1)

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """The smallest integer type of NumPy that holds the codes."""
        size = 1 if self.bits <= 8 else 2
        return np.dtype(f"{'i' if self.signed else 'u'}{size}")
