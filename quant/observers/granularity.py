"""Granularities: which values of an array share a scale and a zero point.

Names as in torchao (``PerAxis`` is ``PerChannel`` here, as in torch.ao's observers).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from quant.errors import InvalidScheme

Item = TypeVar("Item", bound=np.generic)


@dataclass(frozen=True, slots=True)
class PerTensor:
    """One scale. ``[..., n] -> []``"""


@dataclass(frozen=True, slots=True)
class PerChannel:
    """A scale for every index of ``axis``. Weight rows: ``axis=0``, ``[rows, columns] -> [rows]``;
    channels of a KV cache: ``axis=-1``, ``[tokens, channels] -> [channels]``."""

    axis: int = 0


@dataclass(frozen=True, slots=True)
class PerGroup:
    """A scale for ``size`` neighbours along ``axis``. ``[rows, columns] -> [rows, columns / size]``"""

    size: int
    axis: int = -1


@dataclass(frozen=True, slots=True)
class PerToken:
    """A scale for every vector along the last axis. ``[..., tokens, features] -> [..., tokens]``"""


Granularity: TypeAlias = PerTensor | PerChannel | PerGroup | PerToken


def parameter_shape(granularity: Granularity, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the scales of an array of ``shape``. Raises :class:`InvalidScheme` where there is none."""
    match granularity:
        case PerTensor():
            return ()
        case PerChannel(axis):
            return (shape[_axis(axis, shape)],)
        case PerGroup(size, axis):
            place = _axis(axis, shape)
            if size < 1 or shape[place] % size:
                raise InvalidScheme(
                    f"group size {size} does not divide the {shape[place]} values along axis {axis} "
                    f"of an array of shape {list(shape)}; use a divisor of {shape[place]}"
                )
            return (*shape[:place], shape[place] // size, *shape[place + 1 :])
        case PerToken():
            _axis(-1, shape)
            return shape[:-1]


def to_rows(granularity: Granularity, x: NDArray[Item]) -> NDArray[Item]:
    """``x`` as ``[parameters, values]``: row ``p`` holds what shares the ``p``-th scale, in C order."""
    parameters = prod(parameter_shape(granularity, x.shape))
    if parameters == 0:
        return np.empty((0, 0), x.dtype)
    return _facing(granularity, x).reshape(parameters, x.size // parameters)


def from_rows(granularity: Granularity, rows: NDArray[Item], shape: tuple[int, ...]) -> NDArray[Item]:
    """The inverse of :func:`to_rows`: an array of ``shape``, contiguous."""
    if prod(shape) == 0:
        return np.empty(shape, rows.dtype)
    match granularity:
        case PerChannel(axis):
            place = _axis(axis, shape)
            moved = rows.reshape(shape[place], *shape[:place], *shape[place + 1 :])
            result = np.moveaxis(moved, 0, place)
        case PerGroup(size, axis):
            place = _axis(axis, shape)
            groups = parameter_shape(granularity, shape)
            moved = np.moveaxis(rows.reshape(*groups, size), -1, place + 1)
            result = moved.reshape(shape)
        case _:
            result = rows.reshape(shape)
    return np.ascontiguousarray(result)


def _facing(granularity: Granularity, x: NDArray[Item]) -> NDArray[Any]:
    """``x`` with the axes of its parameters first."""
    match granularity:
        case PerChannel(axis):
            return np.moveaxis(x, _axis(axis, x.shape), 0)
        case PerGroup(size, axis):
            place = _axis(axis, x.shape)
            split = x.reshape(*x.shape[:place], -1, size, *x.shape[place + 1 :])
            return np.moveaxis(split, place + 1, -1)
        case _:
            return x


def _axis(axis: int, shape: tuple[int, ...]) -> int:
    if not -len(shape) <= axis < len(shape):
        raise InvalidScheme(f"axis {axis} does not exist in an array of shape {list(shape)}")
    return axis % len(shape)
