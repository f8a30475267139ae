"""The kernels of error feedback, each step against plain NumPy, on every instruction set."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.kernels import available_isas, tiles
from runtime.kernels.signatures import FormatData
from runtime.kernels.tiles import Descent, FeedbackTiles, Start, StoredGrid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def format_data(
    levels: tuple[int, ...],
    *,
    block: int = 32,
    group: int = 16,
    affine: bool = False,
    scales: tuple[int, int] | None = (-8, 7),
    minima: int = 15,
) -> FormatData:
    low, high = scales or (0, 0)
    return FormatData(
        block=block,
        group=group,
        level_count=len(levels),
        affine=affine,
        scale_low=low,
        scale_high=high,
        minima_high=minima if affine and scales else 0,
        levels=(ctypes.c_float * 256)(*levels),
    )


FORMATS = {
    "two levels of scales": format_data(tuple(range(-4, 4))),
    "two levels of scales and minima": format_data(tuple(range(4)), affine=True, scales=(0, 15)),
    "one scale": format_data(tuple(range(-8, 8)), group=32, scales=None),
    "one scale and minimum": format_data(tuple(range(16)), group=32, scales=None, affine=True),
    "a table": format_data(IQ4, group=32, scales=None),
    "a table and two levels": format_data(IQ4, block=64, scales=(-32, 31)),
}


@dataclass
class Case:
    """Rows of weights on a grid, with a Hessian, as the kernels take them."""

    fmt: FormatData
    weights: F32
    hessian: F32
    scale: F32
    minimum: F32 | None
    scales: F32 | None
    minima: F32 | None

    @classmethod
    def random(cls, fmt: FormatData, rows: int = 70, columns: int = 192, seed: int = 0) -> Case:
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((300, columns)) + 0.5 * rng.standard_normal((300, 1))
        x *= np.exp(0.5 * rng.standard_normal(columns))
        blocks, groups = (rows, columns // fmt.block), (rows, columns // fmt.group)
        two_levels = fmt.scale_high != fmt.scale_low
        reach = max(abs(level) for level in fmt.levels[: fmt.level_count])
        scale = rng.uniform(0.5, 1, blocks) * 3 / reach / (fmt.scale_high or 1)
        minimum = rng.uniform(0.5, 1, blocks) * 1.5 / (fmt.minima_high or 1)

        def halves(values: F64) -> F32:
            return values.astype(np.float16).astype(np.float32)

        def integers(low: int, high: int) -> F32:
            return rng.integers(low, high + 1, groups).astype(np.float32)

        return cls(
            fmt,
            rng.standard_normal((rows, columns)).astype(np.float32),
            (x.T @ x / len(x)).astype(np.float32),
            halves(scale),
            halves(minimum) if fmt.affine else None,
            integers(max(1, fmt.scale_high // 2), fmt.scale_high) if two_levels else None,
            integers(0, fmt.minima_high) if fmt.affine and two_levels else None,
        )

    @property
    def columns(self) -> int:
        return int(self.weights.shape[1])

    def effective(self) -> tuple[F32, F32 | None]:
        """[rows, groups]"""
        groups = self.fmt.block // self.fmt.group
        scales = np.repeat(self.scale, groups, axis=1) * (1 if self.scales is None else self.scales)
        if self.minimum is None:
            return scales, None
        minima = np.repeat(self.minimum, groups, axis=1) * (1 if self.minima is None else self.minima)
        return scales, minima

    def values(self, codes: NDArray[np.uint8]) -> F32:
        """[rows, columns]: what codes stand for, each operation in float32."""
        scales, minima = (None if e is None else np.repeat(e, self.fmt.group, 1) for e in self.effective())
        assert scales is not None
        products: F32 = scales * np.array(self.fmt.levels[:], np.float32)[codes]
        return products if minima is None else products - minima

    def tiles(self, coefficients: F32, isa: str | None = None) -> FeedbackTiles:
        scales, minima = self.effective()
        return FeedbackTiles(
            weights=in_tiles(self.weights),
            scales=in_tiles(scales),
            minima=None if minima is None else in_tiles(minima),
            group_of=columns(self.columns) // np.uint32(self.fmt.group),
            coefficients=coefficients,
            isa=isa,
        )


def columns(count: int) -> NDArray[np.uint32]:
    return np.arange(count, dtype=np.uint32)


def in_tiles(rows: F32) -> F32:
    return tiles.load(rows, columns(rows.shape[1]))


def in_rows(of_tiles: NDArray[np.float32] | NDArray[np.uint8], rows: int) -> NDArray[np.generic]:
    found = np.empty((rows, of_tiles.shape[1]), dtype=of_tiles.dtype)
    tiles.store(of_tiles, columns(of_tiles.shape[1]), found)
    return found


def nearest_level(fmt: FormatData, wanted: F64) -> NDArray[np.uint8]:
    levels = np.array(fmt.levels[: fmt.level_count])
    found: NDArray[np.uint8] = np.abs(wanted[:, None] - levels).argmin(axis=1).astype(np.uint8)
    return found


def one_after_the_other(case: Case, coefficients: F32) -> NDArray[np.uint8]:
    """Error feedback in float64, column by column."""
    scales, minima = case.effective()
    weights = case.weights.astype(np.float64)
    errors = np.zeros_like(weights)
    codes = np.zeros(weights.shape, dtype=np.uint8)
    for k in range(case.columns):
        target = weights[:, k] + errors[:, :k] @ coefficients[k, :k].astype(np.float64)
        scale = scales[:, k // case.fmt.group].astype(np.float64)
        minimum = 0.0 if minima is None else minima[:, k // case.fmt.group].astype(np.float64)
        codes[:, k] = nearest_level(case.fmt, (target + minimum) / scale)
        errors[:, k] = weights[:, k] - (scale * np.array(case.fmt.levels[:])[codes[:, k]] - minimum)
    return codes


def unit_lower(size: int) -> F32:
    rng = np.random.default_rng(size)
    return (np.tril(rng.normal(0, 0.1, (size, size)), -1) + np.eye(size)).astype(np.float32)


def rounded(case: Case, coefficients: F32, step: int, isa: str | None = None) -> FeedbackTiles:
    work = case.tiles(coefficients, isa)
    for first in range(0, case.columns, step):
        last = min(first + step, case.columns)
        work.round(case.fmt, first, work.targets(first, last, (0, first)))
    return work


def refined(case: Case, ridge: float, sweeps: int, passes: int = 1, isa: str | None = None) -> FeedbackTiles:
    """From nearest codes; ``case``'s grids are changed too."""
    work = rounded(case, np.eye(case.columns, dtype=np.float32), 64, isa)
    work.coefficients = case.hessian
    stored = StoredGrid(
        in_tiles(case.scale),
        None if case.minimum is None else in_tiles(case.minimum),
        None if case.scales is None else in_tiles(case.scales),
        None if case.minima is None else in_tiles(case.minima),
    )
    steps = (1 / (np.diagonal(case.hessian) + np.float32(ridge))).astype(np.float32)
    for _ in range(sweeps):
        for first in range(0, case.columns, 128):
            last = min(first + 128, case.columns)
            outside = work.targets(first, last, (0, first), Start.ZERO)
            work.targets(first, last, (last, case.columns), Start.TARGETS, outside)
            work.refine(case.fmt, stored, Descent(steps, ridge, passes), first, outside)
    for of_tiles, rows in (
        (stored.scale, case.scale),
        (stored.minimum, case.minimum),
        (stored.scales, case.scales),
        (stored.minima, case.minima),
    ):
        if of_tiles is not None and rows is not None:
            tiles.store(of_tiles, columns(rows.shape[1]), rows)
    return work


def losses(case: Case, codes: NDArray[np.uint8], ridge: float) -> F64:
    """[rows]: e H e, the ridge in H."""
    error = case.weights.astype(np.float64) - case.values(codes)
    found: F64 = ((error @ damped(case, ridge)) * error).sum(axis=1)
    return found


def damped(case: Case, ridge: float) -> F64:
    return case.hessian.astype(np.float64) + ridge * np.eye(case.columns)


# --- tiles
# ---------------------------------------------------------------------------------------------------


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
