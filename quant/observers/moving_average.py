"""Extremes averaged over batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from quant.errors import InvalidScheme
from quant.observers.minmax import MinMax, min_max, require_same_shape, required
from quant.observers.qparams import QParams, qparams_of_range
from quant.observers.scheme import Scheme
from quant.observers.values import F64


@dataclass(frozen=True, slots=True)
class MovingAverage:
    """Averaged extremes, of the granularity's parameter shape."""

    low: F64
    high: F64


class MovingAverageMinMaxObserver:
    """An exponential moving average of each batch's extremes: an outlier in one batch fades.

    The first batch counts fully, then ``average += averaging_constant * (batch - average)``. It depends on
    the order of batches, so two states cannot be merged. For static scales of activations. As
    ``MovingAverageMinMaxObserver`` of torch.ao.quantization; method of Jacob et al., arXiv 1712.05877, 3.1.
    """

    def __init__(
        self, scheme: Scheme, averaging_constant: float = 0.01, state: MovingAverage | None = None
    ) -> None:
        if not 0 < averaging_constant <= 1:
            raise InvalidScheme(f"averaging constant {averaging_constant}; use more than 0, and at most 1")
        self.scheme = scheme
        self.averaging_constant = averaging_constant
        self.state = state

    def observe(self, x: ArrayLike) -> None:
        """Take in a batch; an empty one adds nothing.

        Raises :class:`NotFinite`, or :class:`InvalidScheme` if the batch has other parameters than those
        before.
        """
        batch = min_max(self.scheme.granularity, x)
        if batch is not None:
            self.state = follow(self.state, batch, self.averaging_constant)

    def calculate_qparams(self) -> QParams:
        """Parameters of what was seen. Raises :class:`NothingObserved` if that is nothing."""
        state = required(self.state)
        return qparams_of_range(self.scheme, state.low, state.high)


def follow(state: MovingAverage | None, batch: MinMax, averaging_constant: float) -> MovingAverage:
    """The average after one more batch."""
    low, high = batch.low.astype(np.float64), batch.high.astype(np.float64)
    if state is None:
        return MovingAverage(low, high)
    require_same_shape(state.low.shape, low.shape)
    return MovingAverage(
        state.low + averaging_constant * (low - state.low),
        state.high + averaging_constant * (high - state.high),
    )
