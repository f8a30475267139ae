"""A format for each tensor, so that all of them together stay within a number of bytes.

The error of the whole is taken as a weighted sum of the tensors' own relative errors, which holds to first
order (Malinovskii et al., "Pushing the Limits of Large Language Model Quantization via the Linearity
Theorem", NAACL 2025). What is left is a multiple-choice knapsack, solved by dynamic programming over bytes
(Dudzinski and Walukiewicz 1987).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quant.errors import CannotEncode
from runtime.units import format_bytes

U8 = NDArray[np.uint8]
Ints = NDArray[np.int64]

STEPS: Final = 1 << 16
"""Bytes are counted in units, so many of them between the smallest and the largest choice of all."""


class Beside(NamedTuple):
    """What lies in a file once, for all tensors that need it: its name, and its bytes with padding."""

    name: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Option:
    """A format that a tensor may get: its name, its own bytes with padding, and the error that counts."""

    format: str
    nbytes: int
    cost: float
    beside: tuple[Beside, ...] = ()


def total_bytes(chosen: Iterable[Option]) -> int:
    """Of the options together, with what lies beside them once."""
    options = list(chosen)
    beside = {shared for option in options for shared in option.beside}
    return sum(option.nbytes for option in options) + sum(shared.nbytes for shared in beside)


class Choices:
    """The best choices of one option for each tensor, from the fewest bytes to ``most_bytes`` (None: all):
    pure, the same each time.

    Each has the least cost of all choices of as many bytes; where there are more than :data:`STEPS` bytes to
    choose between, the least with each option's bytes rounded to a unit. In the search, what lies beside
    options counts in equal parts for all tensors that may need it; the bytes of what is found are true.
    """

    def __init__(self, options: Mapping[str, Sequence[Option]], most_bytes: int | None = None) -> None:
        self._names = sorted(options)
        sharers = Counter(
            shared.name
            for found in options.values()
            for shared in {shared for option in found for shared in option.beside}
        )
        self._useful = [worth_having(options[name], sharers) for name in self._names]
        sizes = [[_counted(option, sharers) for option in found] for found in self._useful]
        least = sum(found[0] for found in sizes)
        unit = max(1, -(-(sum(found[-1] for found in sizes) - least) // STEPS))
        units = [_units(found, unit) for found in sizes]
        rounded = len(units) if unit > 1 else 0  # more units than these cannot have been rounded away
        capacity = sum(int(steps[-1]) for steps in units)
        if most_bytes is not None:
            capacity = min(capacity, max(most_bytes - least, 0) // unit + rounded)
        taken = _fill(self._useful, units, capacity)
        self._numbers = _trace(taken, units)
        self.nbytes = _true_bytes(self._useful, self._numbers)
        """[choices]: true bytes of each, all tensors together."""
        self.least_bytes = int(self.nbytes.min())

    def within(self, room_bytes: int) -> dict[str, Option]:
        """The best choice of at most ``room_bytes``, which ``most_bytes`` was no less than: more room never
        gives a higher cost.

        Raises :class:`CannotEncode` where not even the smallest options fit.
        """
        fitting = np.flatnonzero(self.nbytes <= room_bytes)
        if not len(fitting):
            raise CannotEncode(
                f"the smallest formats need {format_bytes(self.least_bytes)} for the weights, "
                f"{format_bytes(room_bytes)} are there for them; ask for more, or quantize a smaller model"
            )
        numbers = self._numbers[:, fitting[-1]]
        return {
            name: found[number]
            for name, found, number in zip(self._names, self._useful, numbers.tolist(), strict=True)
        }


def solved(options: Mapping[str, Sequence[Option]], most_bytes: int | None = None) -> list[Choices]:
    """The best choices of all options, and of those with nothing beside them, of which each tensor has one.

    Where the first of the others comes with more bytes than any option has, as LT matrices do, only one of
    the two can be better.
    """
    plain = {name: [each for each in found if not each.beside] for name, found in options.items()}
    return [Choices(each, most_bytes) for each in ([options] if plain == options else [options, plain])]


def _counted(option: Option, sharers: Mapping[str, int]) -> int:
    """Its bytes, and its part of what lies beside it."""
    return option.nbytes + sum(-(-shared.nbytes // sharers.get(shared.name, 1)) for shared in option.beside)


def _true_bytes(useful: Sequence[Sequence[Option]], numbers: U8) -> Ints:
    """[choices]: of all tensors together, with what lies beside them once."""
    nbytes = np.zeros(numbers.shape[1], np.int64)
    needed: dict[Beside, NDArray[np.bool_]] = {}
    for found, row in zip(useful, numbers, strict=True):
        nbytes += np.array([option.nbytes for option in found])[row]
        for shared in {shared for option in found for shared in option.beside}:
            needing = np.array([shared in option.beside for option in found])[row]
            needed[shared] = needed.get(shared, needing) | needing
    for shared, needing in needed.items():
        nbytes += shared.nbytes * needing
    return nbytes


def _units(sizes: Sequence[int], unit: int) -> Ints:
    """[options]: bytes beyond the smallest option, rounded to units, but no other option is as small."""
    beyond = np.array(sizes) - sizes[0]
    return np.where(beyond > 0, np.maximum((beyond + unit // 2) // unit, 1), 0)


def _fill(useful: Sequence[Sequence[Option]], units: Sequence[Ints], capacity: int) -> U8:
    """[tensors, capacity + 1]: the option that a tensor has in the best choice of it and those before it,
    within so many units."""
    least = np.zeros(capacity + 1)
    taken = np.zeros((len(useful), capacity + 1), np.uint8)
    for index, (found, steps) in enumerate(zip(useful, units, strict=True)):
        before, least = least, least + found[0].cost
        for number, (option, step) in enumerate(zip(found, steps.tolist(), strict=True)):
            if number == 0 or step > capacity:
                continue
            costs = before[: capacity + 1 - step] + option.cost
            better = np.flatnonzero(costs < least[step:])
            least[step + better] = costs[better]
            taken[index, step + better] = number
    return taken


def _trace(taken: U8, units: Sequence[Ints]) -> U8:
    """[tensors, capacity + 1]: the options of the best choice of all tensors within so many units."""
    left = np.arange(taken.shape[1])
    numbers = np.empty_like(taken)
    for index in reversed(range(len(taken))):
        numbers[index] = taken[index, left]
        left = left - units[index][numbers[index]]
    return numbers


def worth_having(options: Sequence[Option], sharers: Mapping[str, int] | None = None) -> list[Option]:
    """Without the options that another beats in bytes and cost: bytes rise strictly, costs fall strictly.

    Of what lies beside options, each counts its part: ``sharers`` says how many share it.
    """
    best: list[Option] = []
    counted = [(_counted(option, sharers or {}), option.cost, option.format, option) for option in options]
    for _, _, _, option in sorted(counted, key=lambda found: found[:3]):
        if not best or option.cost < best[-1].cost:
            best.append(option)
    return best
