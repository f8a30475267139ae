"""The kernels of error feedback, each step against plain NumPy, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.kernels import available_isas, tiles
from runtime.kernels.tiles import Descent, Start, StoredGrid
from tests.runtime.feedback_cases import (
    FORMATS,
    Case,
    columns,
    damped,
    in_rows,
    in_tiles,
    losses,
    one_after_the_other,
    refined,
    rounded,
    unit_lower,
)


@pytest.mark.parametrize(("rows", "count"), [(1, 4), (63, 12), (64, 32), (65, 8), (200, 97)])
def test_tiles_hold_rows_column_by_column_in_any_order(rows: int, count: int) -> None:
    rng = np.random.default_rng(rows)
    wide = rng.standard_normal((rows, count + 9), dtype=np.float32)
    some = wide[:, 5 : count + 5]  # rows further apart than they are long
    order = rng.permutation(count).astype(np.uint32)
    loaded = tiles.load(some, order)
    assert loaded.shape == (-(-rows // 64), count, 64)
    for row in range(rows):
        assert np.array_equal(loaded[row // 64, :, row % 64], some[row, order])
    assert (loaded[-1, :, rows % 64 or 64 :] == 0).all()
    back = np.zeros_like(wide)
    tiles.store(loaded, order, back[:, 5 : count + 5])
    assert np.array_equal(back[:, 5 : count + 5], some)
    assert not back[:, :5].any()
    assert not back[:, count + 5 :].any()


def test_rows_and_orders_that_do_not_fit_are_refused() -> None:
    rows = np.zeros((4, 8), dtype=np.float32)
    with pytest.raises(ValueError, match="order names column 8 of 8"):
        tiles.load(rows, np.array([8], dtype=np.uint32))
    with pytest.raises(ValueError, match="contiguous rows"):
        tiles.load(rows[:, ::2], columns(4))
    with pytest.raises(ValueError, match="tiles have shape"):
        tiles.store(np.zeros((2, 8, 64), dtype=np.float32), columns(8), rows)


# --- targets and rounding
# ------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("errors", [(0, 0), (0, 4), (0, 128), (8, 192), (132, 136)])
def test_targets_are_sums_of_errors_times_coefficients(isa: str, errors: tuple[int, int]) -> None:
    case = Case.random(FORMATS["one scale"])
    coefficients = np.random.default_rng(1).standard_normal((192, 192)).astype(np.float32)
    work = case.tiles(coefficients, isa)
    work.errors[...] = np.random.default_rng(2).standard_normal(work.errors.shape)
    some = slice(*errors)
    added = np.einsum("tir,ki->tkr", work.errors[:, some].astype(np.float64), coefficients[40:64, some])
    weights = work.weights[:, 40:64]
    bound = 1e-5 * (np.abs(added).max() + 4)
    from_weights = work.targets(40, 64, errors)
    assert np.abs(from_weights - (weights + added)).max() < bound
    from_zero = work.targets(40, 64, errors, Start.ZERO)
    assert np.abs(from_zero - added).max() < bound
    again = work.targets(40, 64, errors, Start.TARGETS, from_zero.copy())
    assert np.abs(again - 2 * added).max() < 2 * bound
    if errors[1] > errors[0]:
        work.errors[0, errors[0], 3] += np.float32(0.5)
        assert np.abs(work.targets(40, 64, errors, Start.ZERO) - added).max() > bound


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("name", FORMATS)
def test_codes_are_those_of_feedback_column_by_column_in_float64(name: str, isa: str) -> None:
    case = Case.random(FORMATS[name])
    coefficients = unit_lower(case.columns)
    work = rounded(case, coefficients, 64, isa)
    codes = in_rows(work.codes, 70)
    assert np.array_equal(codes, one_after_the_other(case, coefficients))
    errors = case.weights - case.values(codes.astype(np.uint8))
    assert np.array_equal(in_rows(work.errors, 70), errors)


def test_one_changed_coefficient_changes_codes() -> None:
    case = Case.random(FORMATS["one scale"])
    coefficients = unit_lower(case.columns)
    changed = coefficients.copy()
    changed[100, 7] += np.float32(0.5)
    assert not np.array_equal(rounded(case, changed, 64).codes, rounded(case, coefficients, 64).codes)


@pytest.mark.parametrize("name", FORMATS)
def test_bits_depend_on_neither_steps_nor_instruction_set(name: str) -> None:
    case = Case.random(FORMATS[name])
    coefficients = unit_lower(case.columns)
    first, *others = [
        rounded(case, coefficients, step, isa) for isa in available_isas() for step in (4, 64, 192)
    ]
    for other in others:
        assert np.array_equal(first.codes, other.codes)
        assert np.array_equal(first.errors, other.errors)


def test_groups_without_a_scale_take_the_level_nearest_to_zero() -> None:
    case = Case.random(FORMATS["one scale"])
    case.scale[:, 1] = 0
    codes = in_rows(rounded(case, unit_lower(192), 64).codes, 70)
    assert (codes[:, 32:64] == 8).all()


# --- refinement
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_refinement_ends_where_no_other_code_would_lower_the_loss(name: str) -> None:
    case, ridge = Case.random(FORMATS[name], rows=20), 0.05
    before = losses(case, rounded_codes(case), ridge)
    codes = in_rows(refined(case, ridge, sweeps=300).codes, 20).astype(np.uint8)
    after = losses(case, codes, ridge)
    assert (after <= before * (1 + 1e-5)).all()
    assert after.sum() < 0.7 * before.sum()
    assert best_single_move(case, codes, ridge) < 1e-4
    codes[3, 100] = (codes[3, 100] + 2) % case.fmt.level_count
    assert best_single_move(case, codes, ridge) > 1e-4


def rounded_codes(case: Case) -> NDArray[np.uint8]:
    return in_rows(rounded(case, np.eye(case.columns, dtype=np.float32), 64).codes, len(case.weights)).astype(
        np.uint8
    )


def best_single_move(case: Case, codes: NDArray[np.uint8], ridge: float) -> float:
    """By how much of a row's loss the best change of one code would lower it; the worst row."""
    h = damped(case, ridge)
    error = case.weights.astype(np.float64) - case.values(codes)
    gradient, best = error @ h, np.zeros(len(error))
    for code in range(case.fmt.level_count):
        move = case.values(np.full_like(codes, code)).astype(np.float64) - case.values(codes)
        change = move * move * np.diagonal(h) - 2 * move * gradient
        best = np.minimum(best, change.min(axis=1))
    return float((-best / (error @ h * error).sum(axis=1)).max())


@pytest.mark.parametrize("name", FORMATS)
def test_refinement_ends_where_no_neighbour_of_a_scale_would_lower_the_loss(name: str) -> None:
    case, ridge = Case.random(FORMATS[name], rows=20), 0.05
    codes = in_rows(refined(case, ridge, sweeps=300).codes, 20).astype(np.uint8)
    least = losses(case, codes, ridge)
    for block in range(case.scale.shape[1]):
        for direction in (-np.inf, np.inf):
            kept = case.scale[:, block].copy()
            case.scale[:, block] = np.nextafter(kept.astype(np.float16), np.float16(direction))
            assert (losses(case, codes, ridge) > least * (1 - 1e-4)).all()
            case.scale[:, block] = kept
    integers = case.minima if case.minima is not None else case.scales
    low, high = (
        (0, case.fmt.minima_high) if case.minima is not None else (case.fmt.scale_low, case.fmt.scale_high)
    )
    if integers is not None:
        for group in range(integers.shape[1]):
            for step in (-1, 1):
                kept = integers[:, group].copy()
                integers[:, group] = np.clip(kept + step, low, high)
                assert (losses(case, codes, ridge) > least * (1 - 1e-4)).all()
                integers[:, group] = kept


@pytest.mark.parametrize("name", FORMATS)
def test_refinement_stays_within_what_the_format_stores(name: str) -> None:
    case = Case.random(FORMATS[name])
    refined(case, 0.05, sweeps=3)
    for halves in (case.scale, case.minimum):
        assert halves is None or np.array_equal(halves, halves.astype(np.float16).astype(np.float32))
    if case.scales is not None:
        assert np.array_equal(case.scales, np.rint(case.scales))
        assert case.scales.min() >= case.fmt.scale_low
        assert case.scales.max() <= case.fmt.scale_high
    if case.minima is not None:
        assert np.array_equal(case.minima, np.rint(case.minima))
        assert case.minima.min() >= 0
        assert case.minima.max() <= case.fmt.minima_high


@pytest.mark.parametrize("name", FORMATS)
def test_refined_errors_are_those_of_the_refined_codes_on_the_refined_grid(name: str) -> None:
    case = Case.random(FORMATS[name])
    work = refined(case, 0.05, sweeps=2)
    codes = in_rows(work.codes, 70).astype(np.uint8)
    assert np.array_equal(in_rows(work.errors, 70), case.weights - case.values(codes))


@pytest.mark.parametrize("name", FORMATS)
def test_refinement_gives_the_same_bits_on_every_instruction_set(name: str) -> None:
    found = []
    for isa in available_isas():
        case = Case.random(FORMATS[name])
        work = refined(case, 0.05, sweeps=2, passes=2, isa=isa)
        grids = [a.tobytes() for a in (case.scale, case.minimum, case.scales, case.minima) if a is not None]
        found.append((work.codes.tobytes(), work.errors.tobytes(), grids))
    assert all(other == found[0] for other in found[1:])


def test_ranges_that_are_not_whole_blocks_or_too_wide_are_refused() -> None:
    case = Case.random(FORMATS["one scale"], columns=320)
    work = case.tiles(case.hessian)
    stored = StoredGrid(in_tiles(case.scale), None, None, None)
    descent = Descent(np.ones(320, dtype=np.float32), 0.1, 1)
    with pytest.raises(ValueError, match="columns 16 to 48 are not whole blocks of 32"):
        work.refine(case.fmt, stored, descent, 16, np.zeros((2, 32, 64), dtype=np.float32))
    with pytest.raises(ValueError, match="columns 0 to 288 are more than 256 at once"):
        work.refine(case.fmt, stored, descent, 0, np.zeros((2, 288, 64), dtype=np.float32))
    with pytest.raises(ValueError, match="columns 2 to 6"):
        work.targets(2, 6, (0, 0))
    with pytest.raises(ValueError, match="not within 320 columns"):
        work.targets(0, 324, (0, 0))
