"""What every observer does."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import ArrayLike

from quant.observers.qparams import QParams
from quant.observers.scheme import Scheme


class Observer(Protocol):
    """Sees arrays batch by batch, keeps statistics and never data, and gives parameters for them."""

    scheme: Scheme

    def observe(self, x: ArrayLike) -> None:
        """Take in a batch."""
        ...

    def calculate_qparams(self) -> QParams:
        """Parameters of what was seen."""
        ...
