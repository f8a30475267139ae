"""One entry of a tensor table."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from runtime.gguf.ggml_types import GgmlType


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor's place and form. ``shape`` is in ggml's order: the row's length first."""

    name: str
    type: GgmlType
    shape: tuple[int, ...]
    offset: int
    """From the start of the data section."""
    nbytes: int
    """Without the padding behind it."""

    @property
    def elements(self) -> int:
        return prod(self.shape)
