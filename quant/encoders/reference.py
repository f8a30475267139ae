"""What the search of ``runtime/kernels/fit`` does, in NumPy: the same blocks as ``nearest``, bit for bit.

Blocks lie in the arrays' first axis and groups in the second; loops go over weights and candidates, in the
kernel's order. It says what the kernel does, some thousand times slower.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from quant.encoders.reference_grids import (
    Fit,
    Grid,
    Group,
    Levels,
    Plan,
    at_sign,
    error_of,
    moments_of,
    search_grid,
    search_scale,
    solve,
)
from quant.encoders.reference_half import (
    F,
    Mask,
    choose,
    inverse,
    larger,
    magnitude,
    move_half,
    ratio,
    round_to_half,
    round_to_half_but_zero,
    smaller,
)
from quant.formats.format import F32, U8, Blocks, Format

LEAST_IMPORTANCE = F(2.0**-24)
UNITS, REFITS = 16, 2
INFINITY = F(np.inf)


def nearest_reference(fmt: Format, weights: F32, importance: F32 | None = None) -> Blocks:
    """As :func:`quant.encoders.nearest.nearest`, of float32 rows that it would not refuse."""
    rows, columns = weights.shape
    if importance is None:
        importance = np.ones(columns, dtype=np.float32)
    per_row = columns // fmt.block
    w = np.tile(normalized(importance.reshape(per_row, fmt.block)), (rows, 1))
    shape = (rows * per_row, fmt.groups, fmt.group)
    x, w = weights.reshape(shape), w.reshape(shape)
    weight = np.zeros(shape[:2], dtype=np.float32)
    for j in range(fmt.group):
        weight = weight + w[..., j]
    group = Group(x, w, weight)
    levels, plan = Levels.of(fmt), Plan.of(fmt)
    with np.errstate(all="ignore"):
        if fmt.scale_range is not None:
            return two_levels(fmt, levels, plan, group)
        search = search_grid if fmt.affine else search_scale
        grid = settle(levels, group, search(levels, plan, group), fmt.affine)
        minimum = grid.minimum[:, 0].astype(np.float16) if fmt.affine else None
        return Blocks(codes_of(levels, group, grid, fmt.affine), grid.scale[:, 0].astype(np.float16), minimum)


def normalized(importance: F32) -> F32:
    """[blocks, block] relative to the block's largest, none quite 0."""
    most = importance.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        w = choose(most > F(0), importance * (F(1) / most), F(1))
    return choose(w < LEAST_IMPORTANCE, LEAST_IMPORTANCE, w)


def codes_of(levels: Levels, group: Group, grid: Grid, affine: bool) -> U8:
    x = group.x + grid.minimum[..., None] if affine else group.x
    codes = levels.code(x * inverse(grid.scale)[..., None])
    return codes.astype(np.uint8).reshape(len(codes), -1)


def settle(levels: Levels, group: Group, fit: Fit, affine: bool) -> Grid:
    best = middle = Grid(round_to_half_but_zero(fit.grid.scale), round_to_half(fit.grid.minimum))
    error = error_of(levels, group, best, affine)
    for i in (-1, 0, 1):
        for k in (-1, 0, 1) if affine else (0,):
            if i == k == 0:
                continue
            other = Grid(move_half(middle.scale, i), move_half(middle.minimum, k))
            its = error_of(levels, group, other, affine)
            best = Grid(*(choose(its < error, new, old) for new, old in zip(other, best, strict=True)))
            error = choose(its < error, its, error)
    return best


# --- blocks of many groups: fit/block.h --------------------------------------------------------------------


@dataclass(frozen=True)
class Solution:
    """Units [blocks] and integers [blocks, groups] of a format with scales within its blocks."""

    unit: Grid
    error: F32
    scale: F32
    minimum: F32

    def grid(self) -> Grid:
        return Grid(self.unit.scale[:, None] * self.scale, self.unit.minimum[:, None] * self.minimum)

    def better(self, other: Solution) -> Solution:
        """``other`` where its error is less."""
        mask = other.error < self.error
        unit = Grid(*(choose(mask, new, old) for new, old in zip(other.unit, self.unit, strict=True)))
        return Solution(
            unit,
            choose(mask, other.error, self.error),
            choose(mask[:, None], other.scale, self.scale),
            choose(mask[:, None], other.minimum, self.minimum),
        )


def nearest_integer(value: F32, low: np.float32, high: np.float32) -> F32:
    magic = F(12582912)
    return (smaller(larger(value, low), high) + magic) - magic


def beside(index: int) -> np.float32:
    return F(-((index + 1) // 2) if index % 2 else index // 2)


def summed(per_group: F32) -> F32:
    """[blocks, groups] -> [blocks], group after group."""
    total = np.zeros(len(per_group), dtype=np.float32)
    for g in range(per_group.shape[1]):
        total = total + per_group[:, g]
    return total


def two_levels(fmt: Format, levels: Levels, plan: Plan, group: Group) -> Blocks:
    search = BlockSearch(fmt, levels, group)
    if fmt.affine:
        fit = search_grid(levels, plan, group)
        best, other = (search.solved(at_sign(levels, group, fit, plan.span, sign)) for sign in (1, -1))
        best = best.better(other)
    else:
        best = search.solved(search_scale(levels, plan, group))
    return Blocks(
        codes_of(levels, group, best.grid(), fmt.affine),
        best.unit.scale.astype(np.float16),
        best.unit.minimum.astype(np.float16) if fmt.affine else None,
        best.scale.astype(np.int8),
        best.minimum.astype(np.uint8) if fmt.affine else None,
    )


class BlockSearch:
    """The units and integers for groups whose best grids are known."""

    def __init__(self, fmt: Format, levels: Levels, group: Group) -> None:
        self.levels, self.group, self.affine = levels, group, fmt.affine
        low, high = fmt.scale_range or (0, 0)
        self.low, self.high, self.minimum_high = F(low), F(high), F(fmt.minima_high or 0)
        self.reach = 1 if fmt.affine else 1 + high // 6

    def suiting_minimum(self, fit: Fit, off: F32) -> F32:
        return fit.grid.minimum + (fit.l / self.group.weight) * off

    def predicted_loss(self, fit: Fit, unit: Grid) -> F32:
        scale, minimum = unit.scale[:, None], unit.minimum[:, None]
        rounded = nearest_integer(fit.grid.scale * inverse(scale), self.low, self.high)
        off = scale * rounded - fit.grid.scale
        terms = (fit.ll * off) * off
        if not self.affine:
            return summed(terms)
        wanted = self.suiting_minimum(fit, off) * inverse(minimum)
        below = minimum * nearest_integer(wanted, F(0), self.minimum_high) - fit.grid.minimum
        more = below * (self.group.weight * below - (fit.l * off) * F(2))
        loss = np.zeros_like(unit.scale)
        for g in range(terms.shape[1]):
            loss = loss + terms[:, g]
            loss = loss + more[:, g]
        return loss

    def assign(self, fit: Fit, unit: Grid, reach: int) -> Solution:
        scale_unit, minimum_unit = unit.scale[:, None], unit.minimum[:, None]
        middle = nearest_integer(fit.grid.scale * inverse(scale_unit), self.low, self.high)
        least = np.full_like(middle, INFINITY)
        best_scale = best_minimum = np.zeros_like(middle)
        for i in range(2 * reach + 1):
            scale = smaller(larger(middle + beside(i), self.low), self.high)
            off = scale_unit * scale - fit.grid.scale
            centre = np.zeros_like(middle)
            if self.affine:
                wanted = self.suiting_minimum(fit, off) * inverse(minimum_unit)
                centre = nearest_integer(wanted, F(0), self.minimum_high)
            for k in range(3 if self.affine else 1):
                minimum = smaller(larger(centre + beside(k), F(0)), self.minimum_high)
                grid = Grid(scale_unit * scale, minimum_unit * minimum)
                error = error_of(self.levels, self.group, grid, self.affine)
                better: Mask = error < least
                least = choose(better, error, least)
                best_scale = choose(better, scale, best_scale)
                best_minimum = choose(better, minimum, best_minimum)
        return Solution(unit, summed(least), best_scale, best_minimum)

    def refit_unit(self, solution: Solution) -> Grid:
        sums = moments_of(self.levels, self.group, solution.grid(), self.affine)
        scale, minimum, unit = solution.scale, solution.minimum, solution.unit
        a, p = summed((scale * scale) * sums.ll), summed(scale * sums.rl)
        if not self.affine:
            return Grid(round_to_half(unit.scale + ratio(p, a)), np.zeros_like(unit.scale))
        b, c = summed((scale * minimum) * sums.l), summed((minimum * minimum) * self.group.weight)
        step = solve(a, b, c, p, summed(minimum * sums.r))
        return Grid(round_to_half(unit.scale + step.scale), round_to_half(unit.minimum + step.minimum))

    def units(self, scale_top: F32, minimum_top: F32, k: int) -> list[Grid]:
        def used(index: int) -> np.float32:
            return F(1) - F(0.2) * F(index) / F(UNITS)

        scale = round_to_half_but_zero(scale_top * (F(1) / ((self.high + F(0.4)) * used(k))))
        if not self.affine:
            return [Grid(scale, np.zeros_like(scale)), Grid(-scale, np.zeros_like(scale))]
        highest = [(self.minimum_high + F(0.4)) * used(i) for i in range(UNITS)]
        return [Grid(scale, round_to_half_but_zero(minimum_top * (F(1) / high))) for high in highest]

    def solved(self, fit: Fit) -> Solution:
        scale_top = minimum_top = zero = np.zeros(len(fit.error), dtype=np.float32)
        for g in range(fit.error.shape[1]):
            scale, minimum = fit.grid.scale[:, g], fit.grid.minimum[:, g]
            scale_top = choose(magnitude(scale) > magnitude(scale_top), scale, scale_top)
            minimum_top = choose(magnitude(minimum) > magnitude(minimum_top), minimum, minimum_top)
        no_integers = np.zeros_like(fit.error)
        best = Solution(Grid(zero, zero), np.full_like(zero, INFINITY), no_integers, no_integers)
        strata = 4 if self.affine else 2
        for stratum in np.split(np.arange(UNITS), strata):
            least, found = np.full_like(zero, INFINITY), Grid(zero, zero)
            for unit in (u for k in stratum for u in self.units(scale_top, minimum_top, int(k))):
                loss = self.predicted_loss(fit, unit)
                found = Grid(*(choose(loss < least, new, old) for new, old in zip(unit, found, strict=True)))
                least = choose(loss < least, loss, least)
            best = best.better(self.assign(fit, found, self.reach))
        for _ in range(REFITS):
            around = replace(fit, grid=best.grid())
            best = best.better(self.assign(around, self.refit_unit(best), 1))
        return best
