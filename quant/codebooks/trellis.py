"""Trains the tables of LT formats on Gaussian weights, and prints them as ``quant/formats/lt_tables.py`` has
them.

    python -m quant.codebooks.trellis BITS STATE_BITS [--seed N] [--proposals N] [--improve]

Lloyd's algorithm through the encoder (the generalised one of Linde, Buzo and Gray 1980): weights are encoded,
and each state's value becomes the mean of its weights. It ends in a minimum near its start, so many starts
are tried. Some are random; some partition ascending levels as Ungerboeck (1982) does: what a state has of its
neighbour chooses every 2^(STATE_BITS - BITS)th level, and which of those it is gives the next choice. The
best are then annealed: two values change places, or one moves; a round of Lloyd's algorithm follows.
"""

from __future__ import annotations

import argparse
import ctypes
import textwrap
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quant.formats.lt import LT_FORMATS, STATE_BITS, LtFormat, LtTable
from quant.formats.lt_tables import TABLES
from runtime.kernels.signatures import TrellisData
from runtime.kernels.tiles import TILE_ROWS, FeedbackTiles

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

STARTS: Final = 300
KEPT: Final = 3
"""Starts that are annealed."""
HEAT: Final = 0.004
"""By how much of the error a change may be worse at first, and still be kept."""
SPREADS: Final = np.linspace(0.86, 1.0, 8)
"""Of the range of an int8, what the largest value may take."""


@dataclass
class Sample:
    """Gaussian weights of deviation 1, in words of a format."""

    fmt: LtFormat
    state_bits: int
    weights: F32
    """[tiles, word columns, 64]"""

    @classmethod
    def random(cls, fmt: LtFormat, state_bits: int, count: int, seed: int) -> Sample:
        """At least ``count`` weights."""
        tiles = -(-count // (fmt.word_columns * TILE_ROWS))
        rng = np.random.default_rng((fmt.bits, seed))
        weights = rng.standard_normal((tiles, fmt.word_columns, TILE_ROWS), dtype=np.float32)
        return cls(fmt, state_bits, weights)

    def __post_init__(self) -> None:
        tiles, columns, _ = self.weights.shape
        self._work = FeedbackTiles(
            weights=self.weights,
            scales=np.ones((tiles, 1, TILE_ROWS), np.float32),
            minima=None,
            group_of=np.zeros(columns, np.uint32),
            coefficients=np.eye(columns, dtype=np.float32),
        )
        self._energy = float(np.square(self.weights, dtype=np.float64).sum())

    def error(self, values: F64) -> float:
        """Squared error over squared weights, with ``values`` [2^state_bits]."""
        table = (ctypes.c_float * 256)(*values)
        self._work.round_words(TrellisData(self.fmt.bits, self.state_bits, table), 0, self.weights)
        return float(np.square(self._work.errors, dtype=np.float64).sum()) / self._energy

    def means(self, values: F64) -> F64:
        """The mean weight of each state; the value of one that no weight has."""
        self.error(values)
        states = self._work.codes.ravel()
        counts = np.bincount(states, minlength=values.size)
        sums = np.bincount(states, self.weights.ravel(), values.size)
        return np.where(counts > 0, sums / np.maximum(counts, 1), values)

    def settled(self, values: F64, rounds: int) -> F64:
        """``values`` after so many rounds of Lloyd's algorithm."""
        for _ in range(rounds):
            values = self.means(values)
        return values


def start(fmt: LtFormat, state_bits: int, rng: np.random.Generator) -> F64:
    """[2^state_bits]: random values, or levels in partitions."""
    states, groups, branches = 1 << state_bits, 1 << (state_bits - fmt.bits), 1 << fmt.bits
    if rng.random() < 0.25:
        return rng.standard_normal(states)
    levels = np.array([NormalDist().inv_cdf((i + 0.5) / states) for i in range(states)])
    group_of = rng.permutation(groups) if rng.random() < 0.5 else np.arange(groups)
    branch_of = rng.permutation(branches)
    turn, there_and_back = rng.integers(branches), rng.random() < 0.3
    values = np.empty(states)
    for level in range(states):
        index, within = divmod(level, groups)
        group = group_of[groups - 1 - within if there_and_back and index % 2 else within]
        values[branch_of[(index + turn * group) % branches] * groups + group] = levels[level]
    return values * rng.uniform(0.95, 1.15)


def anneal(sample: Sample, values: F64, rng: np.random.Generator, proposals: int) -> F64:
    """The best of ``values`` and what ``proposals`` random changes, each with a round of Lloyd's, lead to."""
    states, groups = values.size, values.size >> sample.fmt.bits
    current = best_error = sample.error(values)
    best = values
    for index in range(proposals):
        changed = values.copy()
        one = rng.integers(states)
        match rng.integers(3):
            case 0:  # another state that may follow the same one
                other = (one + groups * rng.integers(1, states // groups)) % states
                changed[[one, other]] = changed[[other, one]]
            case 1:  # a state of nearly the same value
                other = np.argsort(np.abs(changed - changed[one]))[rng.integers(1, min(9, states))]
                changed[[one, other]] = changed[[other, one]]
            case _:
                changed[one] += 0.3 * rng.standard_normal()
        changed = sample.means(changed)
        error = sample.error(changed)
        if error < current * (1 + HEAT * (1 - index / proposals) * rng.random()):
            values, current = changed, error
            if error < best_error:
                best, best_error = changed, error
    return best


def in_integers(sample: Sample, values: F64, limit: int) -> LtTable:
    """The table of integers up to ``limit`` with the least error."""
    found: list[tuple[float, LtTable]] = []
    for spread in SPREADS:
        scale, moved = limit * spread / np.abs(values).max(), values
        for _ in range(2):
            moved = sample.means(_rounded(moved * scale, limit) / scale)
        integers = _rounded(moved * scale, limit)
        table = LtTable(tuple(int(value) for value in integers), round(float(scale), 2))
        found.append((error_of(sample, table), table))
    return min(found, key=lambda pair: pair[0])[1]


def error_of(sample: Sample, table: LtTable) -> float:
    """Squared error over squared weights."""
    return sample.error(np.array(table.values) / table.deviation)


def train(fmt: LtFormat, state_bits: int, seed: int, proposals: int, known: LtTable | None = None) -> LtTable:
    """The best table of many starts, or of ``known`` alone. Deterministic."""
    rng = np.random.default_rng((fmt.bits, state_bits, seed))
    small, middle, large = (
        Sample.random(fmt, state_bits, (256 << state_bits) * size, seed + size) for size in (1, 2, 8)
    )
    if known is None:
        starts = [small.settled(start(fmt, state_bits, rng), 8) for _ in range(STARTS)]
        starts = sorted(starts, key=small.error)[:KEPT]
    else:
        starts = [np.array(known.values) / known.deviation]
    annealed = [anneal(middle, middle.settled(values, 4), rng, proposals) for values in starts]
    best = min((large.settled(values, 12) for values in annealed), key=large.error)
    return in_integers(large, best, 64 if state_bits == 4 else 127)


def _rounded(values: F64, limit: int) -> F64:
    return np.clip(np.rint(values), -limit, limit)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bits", type=int, choices=(1, 2, 3, 4))
    parser.add_argument("state_bits", type=int, choices=STATE_BITS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--proposals", type=int, default=4000, help="for each of the starts that are kept")
    parser.add_argument("--improve", action="store_true", help="start from the table that there is")
    arguments = parser.parse_args()
    fmt, state_bits = LT_FORMATS[f"lt{arguments.bits}"], arguments.state_bits
    known = TABLES[arguments.bits, state_bits]
    table = train(fmt, state_bits, arguments.seed, arguments.proposals, known if arguments.improve else None)
    judge = Sample.random(fmt, state_bits, 1 << 20, arguments.seed + 100)
    print(f"# error {error_of(judge, table):.5f}; of the table that there is {error_of(judge, known):.5f}")
    values = textwrap.indent(textwrap.fill(", ".join(map(str, table.values)), width=100), " " * 8)
    print(f"    ({fmt.bits}, {state_bits}): LtTable(deviation={table.deviation}, values=(")
    print(f"{values},\n    )),")


if __name__ == "__main__":
    main()
