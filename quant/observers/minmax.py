"""The extremes of everything seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from quant.errors import InvalidScheme, NothingObserved
from quant.observers.granularity import Granularity, parameter_shape, to_rows
from quant.observers.qparams import QParams, qparams_of_range
from quant.observers.scheme import Scheme
from quant.observers.values import F32, finite

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class MinMax:
    """The smallest and the largest value seen, of the granularity's parameter shape."""

    low: F32
    high: F32


class MinMaxObserver:
    """The range from the smallest to the largest value of all batches.

    Exact and mergeable: batches in any order, or states merged in any order, give the same parameters.
    As ``MinMaxObserver`` and ``PerChannelMinMaxObserver`` of torch.ao.quantization, without their lower bound
    on the scale.
    """

    def __init__(self, scheme: Scheme, state: MinMax | None = None) -> None:
        self.scheme = scheme
        self.state = state

    def observe(self, x: ArrayLike) -> None:
        """Take in a batch; an empty one adds nothing.

        Raises :class:`NotFinite`, or :class:`InvalidScheme` if the batch has other parameters than those
        before.
        """
        batch = min_max(self.scheme.granularity, x)
        if batch is not None:
            self.state = batch if self.state is None else merge(self.state, batch)

    def calculate_qparams(self) -> QParams:
        """Parameters of what was seen. Raises :class:`NothingObserved` if that is nothing."""
        state = required(self.state)
        return qparams_of_range(self.scheme, state.low, state.high)


def min_max(granularity: Granularity, x: ArrayLike) -> MinMax | None:
    """The extremes of one array; None for an empty one."""
    values = finite(x)
    shape = parameter_shape(granularity, values.shape)
    if values.size == 0:
        return None
    rows = to_rows(granularity, values)
    return MinMax(rows.min(axis=1).reshape(shape), rows.max(axis=1).reshape(shape))


def merge(one: MinMax, other: MinMax) -> MinMax:
    """The extremes of what two states saw; associative and commutative."""
    require_same_shape(one.low.shape, other.low.shape)
    return MinMax(np.minimum(one.low, other.low), np.maximum(one.high, other.high))


def require_same_shape(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Raises :class:`InvalidScheme` for parameters of two shapes."""
    if one != other:
        raise InvalidScheme(
            f"a batch has parameters of shape {list(other)}, those before it {list(one)}; "
            "observe arrays of one layout, or use an observer for each"
        )


def required(state: State | None) -> State:
    """``state``, or :class:`NothingObserved`."""
    if state is None:
        raise NothingObserved("no values were observed; call observe() with a non-empty array first")
    return state
