"""What a training run tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec


class Check(msgspec.Struct, frozen=True):
    """The held-out text, read after ``step`` updates."""

    step: int
    loss: float
    """KL divergence in nats; in ``blocks`` a layer's squared error over the square of what it gives."""
    layer: int | None = None


OnStep: TypeAlias = Callable[[int, int], None]
"""(updates done, updates in all)"""
OnCheck: TypeAlias = Callable[[Check], None]
