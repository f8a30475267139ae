"""A format for each tensor, so that all of them together stay within a number of bytes.

The error of the whole is taken as a weighted sum of the tensors' own relative errors, which holds to first
order (Malinovskii et al., "Pushing the Limits of Large Language Model Quantization via the Linearity
Theorem", NAACL 2025). Then the formats worth having for a tensor lie on the lower convex hull of its error
over bytes, and the steps along all hulls are taken in the order of error saved for each byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from quant.errors import CannotEncode
from runtime.units import format_bytes


@dataclass(frozen=True, slots=True)
class Option:
    """A format that a tensor may get: its name, its bytes with padding, and the error that counts."""

    format: str
    nbytes: int
    cost: float


def choose(options: Mapping[str, Sequence[Option]], room_bytes: int) -> dict[str, Option]:
    """One option for each tensor, of at most ``room_bytes`` together. Pure and deterministic.

    More room never gives a higher cost: a step that fits into more room, but not into less, saves more for
    each byte than whatever less room has instead of it. Raises :class:`CannotEncode` where not even the
    smallest options fit.
    """
    hulls = {name: lower_hull(found) for name, found in options.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    room = room_bytes - sum(option.nbytes for option in chosen.values())
    if room < 0:
        raise CannotEncode(
            f"the smallest formats need {format_bytes(room_bytes - room)} for the weights, "
            f"{format_bytes(room_bytes)} are there for them; ask for more, or quantize a smaller model"
        )
    steps = [
        (_gain(before, after), name, before, after)
        for name, hull in hulls.items()
        for before, after in pairwise(hull)
    ]
    for _, name, before, after in sorted(steps, key=lambda step: (-step[0], step[1], step[2].nbytes)):
        more = after.nbytes - before.nbytes
        if chosen[name] is before and more <= room:
            chosen[name] = after
            room -= more
    return chosen


def lower_hull(options: Sequence[Option]) -> list[Option]:
    """The options that no mixture of two others beats: bytes and savings per byte strictly fall in order."""
    best: list[Option] = []
    for option in sorted(options, key=lambda option: (option.nbytes, option.cost, option.format)):
        if best and option.cost >= best[-1].cost:
            continue
        while best and best[-1].nbytes == option.nbytes:
            best.pop()
        while len(best) > 1 and _gain(best[-2], best[-1]) <= _gain(best[-1], option):
            best.pop()
        best.append(option)
    return best


def _gain(before: Option, after: Option) -> float:
    return (before.cost - after.cost) / (after.nbytes - before.nbytes)
