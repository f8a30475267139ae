"""Rotated Hessians: of inputs that a random-sign Hadamard transform spreads over their block
(``lt_input.py``).

Rotation and error feedback belong together. Rotated weights are Gaussian, which is what the tables are made
for; but their errors fall on all columns alike, and without feedback under the rotated Hessian that is far
worse than none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from quant.calibration.statistics import InputStatistics
from quant.encoders.hessian import F32, U32, factor, hessians, ranked
from quant.errors import CannotEncode
from quant.formats.lt import UNIT, LtFormat
from quant.formats.lt_input import LtInput, block_of, hadamard


@dataclass(frozen=True, slots=True)
class WordFactor:
    """One diagonal block of a rotated Hessian, its columns in the input's order."""

    first: int
    hessian: F32
    """[n, n]"""
    coefficients: F32
    """[n, n]: what the error of column i adds to the target of column k, where i is in a word before k's."""


def rotates(columns: int, block: int | None) -> bool:
    """Whether a Hessian in blocks of ``block`` columns, if there is one, can be rotated."""
    return (
        block is not None
        and block > 0
        and columns % UNIT == 0
        and columns < 1 << 16
        and block % block_of(columns) == 0
    )


def choose_input(statistics: InputStatistics, seed: int) -> LtInput:
    """Random signs of ``seed``, and within each block of the Hessian the columns of most energy first.

    All experts of a tensor have the same input. Raises :class:`CannotEncode` for lengths that no word
    divides, and for statistics without a Hessian.
    """
    columns = statistics.columns
    if columns % UNIT or columns >= 1 << 16:
        raise CannotEncode(
            f"rows of {columns} weights are not stored in words: it takes a multiple of {UNIT}"
        )
    minus = np.random.default_rng((seed, columns)).random(columns) < 0.5
    plain = LtInput(block_of(columns), minus, np.arange(columns, dtype=np.uint16))
    order = np.empty(columns, np.uint16)
    energy = np.zeros(columns, np.float32)
    for expert in range(len(statistics.tokens)):
        for first, hessian in hessians(statistics, expert):
            energy[first : first + len(hessian)] += np.diagonal(rotated(hessian, plain, first))
    size = statistics.block or columns
    for first in range(0, columns, size):
        order[first : first + size] = first + ranked(energy[first : first + size], "importance", 1)
    return LtInput(plain.block, minus, order)


def rotated(hessian: F32, given: LtInput, first: int = 0) -> F32:
    """R H R^T of a diagonal block from column ``first`` on, its columns as they lie."""
    size = len(hessian)
    if size % given.block:
        raise CannotEncode(
            f"a block of the Hessian has {size} columns, one of the rotation {given.block}: the first must be"
            " a multiple of the second; calibrate with more memory"
        )
    minus = given.minus[first : first + size]
    found = hessian
    for _ in range(2):
        found = np.array(found.T, dtype=np.float32, order="C")
        found[minus] *= np.float32(-1)
        hadamard(found[None], given.block)
    return found


def word_factors(
    fmt: LtFormat,
    statistics: InputStatistics,
    given: LtInput,
    *,
    expert: int = 0,
    damping: float = 0.02,
    threads: int = 1,
    isa: str | None = None,
) -> Iterator[WordFactor]:
    """The factors of ``expert``'s Hessian for words of ``fmt``, one diagonal block at a time.

    Raises :class:`CannotEncode` as :func:`quant.encoders.hessian.factor` does.
    """
    for first, hessian in hessians(statistics, expert):
        order = given.order[first : first + len(hessian)].astype(np.uint32) - np.uint32(first)
        turned = rotated(hessian, given, first)
        found = factor(turned, order, first=first, damping=damping, threads=threads, isa=isa)
        between_words(found.coefficients, fmt.word_columns)
        yield WordFactor(first, _ordered(turned, order), found.coefficients)


def between_words(coefficients: F32, columns: int) -> None:
    """Unit lower triangular [n, n] -> what it is between words of ``columns``, in place; within a word the
    identity.

    The factor S of H = S^T S as D U, where U is the identity within a word: a word's targets take the errors
    of the words before it, weighed so that its own, whatever they are, count by themselves.
    """
    words = coefficients.reshape(-1, columns, coefficients.shape[1])
    index = np.arange(len(words))
    for k in range(1, columns):
        for i in range(k):
            within = words[index, k, index * columns + i]
            words[:, k] -= within[:, None] * words[:, i]


def _ordered(hessian: F32, order: U32) -> F32:
    return np.ascontiguousarray(np.take(np.take(hessian, order, axis=0), order, axis=1))
