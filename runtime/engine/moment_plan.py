"""How much of each input's second moments is kept, and in how many passes, within a bound on memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_BLOCK = 256
"""A Hessian of narrower blocks gains little over its diagonal."""
GRANULES = (256, 32)
"""A block holds whole blocks of the formats that fit the columns: error feedback needs that."""


@dataclass(frozen=True, slots=True)
class InputShape:
    """An input of ``columns`` that ``matrices`` take apart: the experts of a mixture, or one."""

    columns: int
    matrices: int = 1

    def bytes(self, block: int) -> int:
        """Of its sums: float64 squares, and float32 moments in blocks, none for 0."""
        return self.matrices * self.columns * (8 + 4 * block)


@dataclass(frozen=True, slots=True)
class MomentPlan:
    """``blocks``: columns in a block of each input, 0 for none. ``windows``: the inputs of each pass."""

    blocks: tuple[int, ...]
    windows: tuple[range, ...]


def block_sizes(columns: int) -> list[int]:
    """Sizes that blocks of an input may have, ascending; the last is the whole input."""
    granule = next((size for size in GRANULES if columns % size == 0), GRANULES[-1])
    parts = range(2, columns // LEAST_BLOCK + 1)
    fitting = {columns // count for count in parts if columns % (count * granule) == 0}
    return sorted(fitting | {columns})


def plan_moments(
    inputs: Sequence[InputShape], memory_bytes: int, *, hessian: bool, expert_hessian: bool = False
) -> MomentPlan:
    """The widest blocks with which one pass fits into ``memory_bytes``; else the narrowest in several passes.

    ``inputs`` are in the order in which a pass meets them; a window is a run of them. One bound on the width
    holds for all inputs. A single input that does not fit gets a pass of its own nevertheless.
    """
    kept = [hessian and (expert_hessian or shape.matrices == 1) for shape in inputs]
    sizes = [block_sizes(shape.columns) if keep else [0] for shape, keep in zip(inputs, kept, strict=True)]
    bounds = sorted({size for choice in sizes for size in choice}, reverse=True) or [0]
    blocks: list[int] = []
    for bound in bounds:
        blocks = [max((size for size in choice if size <= bound), default=choice[0]) for choice in sizes]
        if sum(shape.bytes(block) for shape, block in zip(inputs, blocks, strict=True)) <= memory_bytes:
            break
    return MomentPlan(tuple(blocks), tuple(_windows(inputs, blocks, memory_bytes)))


def _windows(inputs: Sequence[InputShape], blocks: Sequence[int], memory_bytes: int) -> list[range]:
    windows: list[range] = []
    begin, used = 0, 0
    for index, (shape, block) in enumerate(zip(inputs, blocks, strict=True)):
        need = shape.bytes(block)
        if index > begin and used + need > memory_bytes:
            windows.append(range(begin, index))
            begin, used = index, 0
        used += need
    return [*windows, range(begin, len(inputs))] if inputs else []
