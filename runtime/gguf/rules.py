"""What a metadata key's value must be: its type and its range."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from runtime.gguf import limits
from runtime.gguf.values import ValueType

INT32_MAX: Final = (1 << 31) - 1
WIDTH: Final = 1 << 24
"""Of a layer; the widest real one has 2^17."""
HEADS: Final = 1 << 16

_FLOAT32_MAX = 3.5e38


@dataclass(frozen=True, slots=True)
class Rule:
    """What a key's value must be."""

    types: tuple[ValueType, ...]
    least: float = -math.inf
    most: float = math.inf
    per_layer: bool = False
    """One value, or an array of them for the layers."""
    array: bool = False
    """An array of ``types``; ``least`` and ``most`` bound the elements of a small one."""
    count: tuple[int, int] = (0, INT32_MAX)
    """Least and most elements of an array."""

    @property
    def bounded(self) -> bool:
        """Whether values have a range; then a NaN is out of it."""
        return math.isfinite(self.least) or math.isfinite(self.most)


def u32(least: int, most: int) -> Rule:
    return Rule((ValueType.U32,), least, most)


def layers(least: int, most: int) -> Rule:
    """As llama.cpp reads them: an array's elements may be signed or not."""
    return Rule((ValueType.U32, ValueType.I32), least, most, per_layer=True, count=(0, limits.BLOCKS))


def f32(least: float = -_FLOAT32_MAX, most: float = _FLOAT32_MAX) -> Rule:
    return Rule((ValueType.F32,), least, most)


def array(*types: ValueType, least: float = -math.inf, most: float = math.inf) -> Rule:
    return Rule(types, least, most, array=True)


def counted(rule: Rule, least: int, most: int) -> Rule:
    return replace(rule, count=(least, most))


BOOL: Final = Rule((ValueType.BOOL,))
TEXT: Final = Rule((ValueType.STRING,))
