"""What a training run tells."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TypeAlias

import msgspec

from quant.errors import CannotTrain


class Check(msgspec.Struct, frozen=True):
    """The held-out text, read after ``step`` updates."""

    step: int
    loss: float
    """KL divergence in nats; in ``blocks`` a layer's squared error over the square of what it gives. No
    number where training went astray."""
    layer: int | None = None


OnStep: TypeAlias = Callable[[int, int], None]
"""(updates done, updates in all)"""
OnCheck: TypeAlias = Callable[[Check], None]


def require_finite(first: Check) -> None:
    """Raises CannotTrain for the check before any update if its loss is no number."""
    if not isfinite(first.loss):
        where = "" if first.layer is None else f" of layer {first.layer}"
        raise CannotTrain(
            f"before any update the loss{where} on the held-out text is {first.loss}, so the model computes "
            "something that is no number; quantize it into another format, or without training"
        )
