"""The kernel that rounds to words of a trellis, against plain Python, on every instruction set."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.kernels import available_isas
from runtime.kernels.signatures import TrellisData
from runtime.kernels.tiles import FeedbackTiles
from tests.runtime.feedback_cases import unit_lower

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

EACH = list(itertools.product((1, 2, 3, 4), (4, 6, 8)))
STEPS = {1: 64, 2: 32, 3: 32, 4: 16}


def trellis(symbol_bits: int, state_bits: int) -> TrellisData:
    rng = np.random.default_rng(symbol_bits * 10 + state_bits)
    values = np.rint(np.clip(40 * rng.standard_normal(1 << state_bits), -127, 127))
    return TrellisData(symbol_bits, state_bits, (ctypes.c_float * 256)(*values))


def work(
    data: TrellisData, tiles: int, columns: int, isa: str | None = None, coefficients: F32 | None = None
) -> FeedbackTiles:
    """Rows of very different scales."""
    rng = np.random.default_rng(tiles * 1000 + columns)
    scales = np.exp2(rng.integers(-9, -4, (tiles, 1, 64))).astype(np.float32)
    weights = (40 * scales * rng.standard_normal((tiles, columns, 64))).astype(np.float32)
    if coefficients is None:
        coefficients = np.eye(columns, dtype=np.float32)
    return FeedbackTiles(weights, scales, None, np.zeros(columns, np.uint32), coefficients, isa=isa)


def rounded(data: TrellisData, found: FeedbackTiles, step: int = 64) -> FeedbackTiles:
    columns = found.weights.shape[1]
    for first in range(0, columns, step):
        last = min(first + step, columns)
        found.round_words(data, first, found.targets(first, last, (0, first)))
    return found


def rings(data: TrellisData, of_tiles: NDArray[np.generic]) -> NDArray[np.generic]:
    """[tiles, columns, 64] -> [words, steps], as docs/formats.md has the steps of a word."""
    steps, (tiles, columns, _) = STEPS[data.symbol_bits], of_tiles.shape
    height, width = 4 if data.symbol_bits == 4 else 8, 8 if data.symbol_bits == 1 else 4
    byte, inner = np.divmod(np.arange(steps), steps // 8)
    row, column = 2 * (inner % 4) + byte // 4, 4 * (inner // 4) + byte % 4
    words = of_tiles.reshape(tiles, columns // width, width, 64 // height, height).transpose(0, 1, 3, 4, 2)
    return words[..., row, column].reshape(-1, steps)


def broken_links(data: TrellisData, states: NDArray[np.generic]) -> int:
    """Steps whose state does not go on as the next one."""
    s = states.astype(np.int64)
    shared = (1 << (data.state_bits - data.symbol_bits)) - 1
    return int(((s >> data.symbol_bits) != (np.roll(s, -1, axis=1) & shared)).sum())


def best_ring(data: TrellisData, target: F64, scale: F64) -> float:
    """The least squared error of all rings: Viterbi's algorithm once for each state at step 0, in float64."""
    states, branches = 1 << data.state_bits, 1 << data.symbol_bits
    groups = states // branches
    table = np.array(data.table[:states])
    error = (target[:, None] - scale[:, None] * table) ** 2
    cost = np.where(np.eye(states, dtype=bool), error[0], np.inf)  # [start, state]
    for step in range(1, len(target)):
        cost = np.tile(cost.reshape(states, groups, branches).min(axis=2), (1, branches)) + error[step]
    closing = cost.reshape(states, groups, branches).min(axis=2)  # the group from which a state is reached
    return float(closing[np.arange(states), np.arange(states) % groups].min())


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize(("symbol_bits", "state_bits"), EACH)
def test_words_are_rings_and_errors_are_what_their_values_leave(
    symbol_bits: int, state_bits: int, isa: str
) -> None:
    data = trellis(symbol_bits, state_bits)
    found = rounded(data, work(data, 3 if isa != "scalar" else 1, 16, isa))
    states = rings(data, found.codes)
    assert broken_links(data, states) == 0
    values = np.array(data.table[:], np.float32)[found.codes]
    assert np.array_equal(found.errors, found.weights - found.scales * values)
    states[0, 3] ^= 1
    assert (broken_links(data, states) > 0) == (state_bits > symbol_bits)  # else a ring has no links


@pytest.mark.parametrize(("symbol_bits", "state_bits"), EACH)
def test_words_cost_little_more_than_the_best_of_all_rings(symbol_bits: int, state_bits: int) -> None:
    data = trellis(symbol_bits, state_bits)
    found = rounded(data, work(data, 1, 8))
    scales = np.broadcast_to(found.scales, found.weights.shape)
    cost = (rings(data, found.errors).astype(np.float64) ** 2).sum(axis=1)
    targets, of_steps = (rings(data, a).astype(np.float64) for a in (found.weights, scales))
    least = np.array(
        [best_ring(data, target, scale) for target, scale in zip(targets, of_steps, strict=True)]
    )
    assert (cost >= least * (1 - 1e-4)).all()
    assert cost.sum() < 1.03 * least.sum()
    assert np.median(cost / least) < 1.0001


@pytest.mark.parametrize(("symbol_bits", "state_bits"), [(1, 6), (2, 6), (3, 4), (4, 8)])
def test_errors_reach_the_words_that_come_after_them(symbol_bits: int, state_bits: int) -> None:
    data, width = trellis(symbol_bits, state_bits), 8 if symbol_bits == 1 else 4
    coefficients = unit_lower(64)
    found = rounded(data, work(data, 1, 64, coefficients=coefficients), 32)
    for first in range(0, 64, width):
        here = slice(first, first + width)
        added = np.einsum(
            "tir,ki->tkr", found.errors[:, :first].astype(np.float64), coefficients[here, :first]
        )
        alone = work(data, 1, 64)
        alone.weights = np.ascontiguousarray(found.weights[:, here])
        alone = FeedbackTiles(
            alone.weights, found.scales, None, np.zeros(width, np.uint32), np.eye(width, dtype=np.float32)
        )
        alone.round_words(data, 0, (alone.weights + added).astype(np.float32))
        assert (alone.codes != found.codes[:, here]).mean() < 0.02  # sums of other roundings


@pytest.mark.parametrize(("symbol_bits", "state_bits"), [(1, 8), (2, 6), (3, 6), (4, 4)])
def test_bits_of_words_depend_on_neither_steps_nor_tiles_nor_instruction_set(
    symbol_bits: int, state_bits: int
) -> None:
    data, coefficients = trellis(symbol_bits, state_bits), unit_lower(64)
    first, *others = [
        rounded(data, work(data, 3, 64, isa, coefficients), step)
        for isa in available_isas()
        for step in ((16, 64) if isa != "scalar" else (64,))
    ]
    for other in others:
        assert np.array_equal(first.codes, other.codes)
        assert np.array_equal(first.errors, other.errors)
    second = work(data, 3, 64, None, coefficients)
    part = FeedbackTiles(
        second.weights[1:2].copy(), second.scales[1:2].copy(), None, second.group_of, coefficients
    )
    assert np.array_equal(rounded(data, part).codes[0], first.codes[1])


def test_rows_without_a_scale_do_not_disturb_their_neighbours() -> None:
    data = trellis(2, 6)
    found = work(data, 1, 8)
    found.scales[0, 0, 3:] = 0
    found.weights[0, :, 3:] = 0
    alone = (rounded(data, found).errors[0, :, :3] ** 2).sum()
    together = (rounded(data, work(data, 1, 8)).errors[0, :, :3] ** 2).sum()
    assert alone < together


def test_what_is_no_trellis_is_refused() -> None:
    data = trellis(2, 6)
    found = work(data, 1, 8)
    with pytest.raises(ValueError, match="states of 5 bits"):
        found.round_words(TrellisData(2, 5), 0, found.weights.copy())
    with pytest.raises(ValueError, match="not words of 8"):
        found.round_words(trellis(1, 6), 4, found.weights[:, 4:].copy())
    with pytest.raises(ValueError, match="one scale and no minimum"):
        FeedbackTiles(
            found.weights, np.ones((1, 2, 64), np.float32), None, found.group_of, found.coefficients
        ).round_words(data, 0, found.weights.copy())
