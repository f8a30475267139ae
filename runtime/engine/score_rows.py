"""Scores of positions from rows of logits: log-probability, KL divergence, the likeliest token.

Logits are float32, as llama.cpp gives them; so are their exponentials, while every sum is float64. A row
that holds NaN or +infinity gives NaN, which the caller must refuse; -infinity is a token of probability 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I32: TypeAlias = NDArray[np.int32]


class Row:
    """The softmax of one row of logits: ``exp(shifted[i]) / total`` is the probability of token ``i``."""

    def __init__(self, vocabulary_size: int) -> None:
        self.shifted: F32 = np.empty(vocabulary_size, dtype=np.float32)
        self.exponentials: F32 = np.empty(vocabulary_size, dtype=np.float32)
        self.best = 0
        self.total = 0.0
        self.log_total = 0.0

    def fill(self, logits: F32) -> None:
        """Take another row."""
        self.best = int(logits.argmax())  # the first one, where several are equal; a NaN where there is one
        with np.errstate(invalid="ignore", under="ignore"):
            np.subtract(logits, logits[self.best], out=self.shifted)
            np.exp(self.shifted, out=self.exponentials)
            self.total = float(self.exponentials.sum(dtype=np.float64))
        self.log_total = float(np.log(self.total))

    def log_probability(self, token: int) -> float:
        """Natural logarithm of the token's probability."""
        return float(self.shifted[token]) - self.log_total


class Comparison:
    """Two rows over the same vocabulary, and what the second loses against the first."""

    def __init__(self, vocabulary_size: int) -> None:
        self.original, self.judged = Row(vocabulary_size), Row(vocabulary_size)
        self._work: F32 = np.empty(vocabulary_size, dtype=np.float32)

    def divergence(self) -> float:
        """KL(original || judged) in nats: sum of p (ln p - ln q) over the whole vocabulary.

        With x, y the shifted logits and X, Y the sums of their exponentials, it is
        sum(exp(x) (x - y)) / X - ln X + ln Y: differences of logits, so equal rows give exactly 0.
        """
        with np.errstate(invalid="ignore", under="ignore"):
            np.subtract(self.original.shifted, self.judged.shifted, out=self._work)
            np.multiply(self._work, self.original.exponentials, out=self._work)
            difference = float(self._work.sum(dtype=np.float64))
            if np.isnan(difference):  # a token of probability 0 adds nothing, also where a logit is -infinity
                self._work[self.original.exponentials == 0] = 0
                difference = float(self._work.sum(dtype=np.float64))
        mean_difference = difference / self.original.total
        return mean_difference - self.original.log_total + self.judged.log_total


@dataclass(frozen=True, slots=True)
class Likeliest:
    """The ``kept`` likeliest tokens of a row, and all others together."""

    ids: I32
    """[kept], in no order."""
    shifted: F32
    """[kept]: as in :class:`Row`."""
    log_total: float
    tail: float
    """The probability that is left to all other tokens."""


def likeliest(row: Row, kept: int) -> Likeliest:
    """The ``kept`` likeliest tokens of a row; all of them where the vocabulary is smaller."""
    size = len(row.shifted)
    chosen = np.argpartition(row.shifted, size - kept)[size - kept :] if kept < size else np.arange(size)
    ids = chosen.astype(np.int32)
    return Likeliest(ids, row.shifted[ids], row.log_total, tail_of(row, ids))


def tail_of(row: Row, ids: I32) -> float:
    """Probability of all tokens but ``ids``, summed itself: a difference from 1 would lose its digits.

    The row's exponentials at ``ids`` are 0 afterwards.
    """
    row.exponentials[ids] = 0
    return float(row.exponentials.sum(dtype=np.float64)) / row.total


def bucketed_divergence(original: Likeliest, judged: Row) -> float:
    """KL over the original's likeliest tokens and one bucket for all others: a lower bound of the full one.

    (Putting tokens into one bucket never raises a divergence: the data-processing inequality.)
    """
    some = original.shifted > -np.inf
    shifted = original.shifted[some].astype(np.float64)
    differences = shifted - judged.shifted[original.ids[some]]
    held = np.exp(shifted - original.log_total)
    total = float((held * (differences - original.log_total + judged.log_total)).sum())
    if original.tail > 0:
        ours_tail = tail_of(judged, original.ids)
        total += original.tail * float(np.log(original.tail) - np.log(ours_tail)) if ours_tail > 0 else np.inf
    return total
