"""What calibration learns of one matrix's input, and what the encoders use of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """Second moments of the input of a matrix (or of each expert's) over the calibration tokens."""

    tokens: NDArray[np.int64]
    """[experts]: tokens seen; one expert for an ordinary matrix."""
    mean_square: NDArray[np.float32]
    """[experts, columns]: mean of x_j^2, the diagonal of the Hessian of the squared output error, halved."""
    gram: NDArray[np.float32] | None = None
    """[experts, blocks, size, size]: means of x x^T over ``size`` consecutive columns, a block-diagonal
    Hessian; one block of all columns is the full one. Symmetric. Missing where only the diagonal was kept."""
    peaks: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    """Size of a block -> [experts, blocks]: mean of max |x_j|^2 over the block. Of the sizes in which inputs
    are rounded to bytes, where these divide a row. Missing from importance matrices."""
    extremes: NDArray[np.float32] | None = None
    """[batches, columns / 32]: the largest magnitude in each 32 columns over the tokens of each batch, of all
    experts together. Missing where 32 does not divide a row, and from importance matrices."""

    @property
    def columns(self) -> int:
        """Length of the input."""
        return int(self.mean_square.shape[1])

    @property
    def block(self) -> int | None:
        """Columns in a block of the Hessian."""
        return None if self.gram is None else int(self.gram.shape[2])
