"""The best grid of a group of weights: fit/levels.h, group.h and search.h in NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quant.encoders.reference_half import F, Mask, choose, inverse, larger, magnitude, ratio, smaller
from quant.formats.format import F32, Format

SHAPES, SHIFTS, SHORT, PLACES, AROUND, AGAIN = 7, 7, 6, 5, 5, 2


@dataclass(frozen=True)
class Levels:
    """The levels of a format, and the nearest of them."""

    values: F32
    uniform: bool

    @classmethod
    def of(cls, fmt: Format) -> Levels:
        return cls(np.array(fmt.levels, dtype=np.float32), fmt.uniform)

    def nearest(self, value: F32) -> F32:
        if self.uniform:
            magic = F(12582912)
            return (smaller(larger(value, self.values[0]), self.values[-1]) + magic) - magic
        nearest: F32 = self.values[self.code(value)]
        return nearest

    def code(self, value: F32) -> NDArray[np.int64]:
        codes: NDArray[np.int64]
        if self.uniform:
            codes = (self.nearest(value) - self.values[0]).astype(np.int64)
        else:
            middles = F(0.5) * (self.values[:-1] + self.values[1:])
            codes = np.count_nonzero(value[..., None] > middles, axis=-1)
        return codes


@dataclass(frozen=True)
class Group:
    """Weights ``x`` [..., count] and their importance ``w``, and its sum ``weight`` [...]."""

    x: F32
    w: F32
    weight: F32


class Grid(NamedTuple):
    """A weight is scale * level - minimum."""

    scale: F32
    minimum: F32


class Moments(NamedTuple):
    error: F32
    rl: F32
    ll: F32
    r: F32
    l: F32  # noqa: E741 (a level)


@dataclass(frozen=True)
class Fit:
    grid: Grid
    error: F32
    ll: F32
    l: F32  # noqa: E741


def rests(levels: Levels, group: Group, grid: Grid, affine: bool, j: int) -> tuple[F32, F32]:
    """What is left of the weights at ``j``, and their levels."""
    x = group.x[..., j]
    if affine:
        x = x + grid.minimum
    level = levels.nearest(x * inverse(grid.scale))
    return x - grid.scale * level, level


def moments_of(levels: Levels, group: Group, grid: Grid, affine: bool) -> Moments:
    error = rl = ll = r = l = np.zeros_like(grid.scale)  # noqa: E741
    for j in range(group.x.shape[-1]):
        rest, level = rests(levels, group, grid, affine, j)
        wr, wl = group.w[..., j] * rest, group.w[..., j] * level
        error = error + wr * rest
        rl = rl + wr * level
        ll = ll + wl * level
        if affine:
            r = r + wr
            l = l + wl  # noqa: E741
    return Moments(error, rl, ll, r, l)


def error_of(levels: Levels, group: Group, grid: Grid, affine: bool) -> F32:
    error = np.zeros_like(grid.scale)
    for j in range(group.x.shape[-1]):
        rest, _ = rests(levels, group, grid, affine, j)
        error = error + (group.w[..., j] * rest) * rest
    return error


def solve(a: F32, b: F32, c: F32, p: F32, q: F32) -> Grid:
    """[a -b; -b c] [x; y] = [p; -q]."""
    both = a * c
    determinant = both - b * b
    regular = determinant > both * F(1e-5)
    over = F(1) / choose(regular, determinant, F(1))
    return Grid(
        choose(regular, (c * p - b * q) * over, ratio(p, a)), choose(regular, (b * p - a * q) * over, F(0))
    )


def refit(sums: Moments, group: Group, at: Grid, affine: bool) -> Fit:
    if not affine:
        step = ratio(sums.rl, sums.ll)
        return Fit(Grid(at.scale + step, at.minimum), sums.error - step * sums.rl, sums.ll, sums.l)
    way = solve(sums.ll, sums.l, group.weight, sums.rl, sums.r)
    gain = way.scale * sums.rl - way.minimum * sums.r
    grid = Grid(at.scale + way.scale, at.minimum + way.minimum)
    return Fit(grid, sums.error - gain, sums.ll, sums.l)


def chosen(mask: Mask, yes: Fit, no: Fit) -> Fit:
    """``yes`` where ``mask``, else ``no``."""
    grid = Grid(choose(mask, yes.grid.scale, no.grid.scale), choose(mask, yes.grid.minimum, no.grid.minimum))
    return Fit(
        grid, choose(mask, yes.error, no.error), choose(mask, yes.ll, no.ll), choose(mask, yes.l, no.l)
    )


@dataclass(frozen=True)
class Plan:
    """Where to look, from the levels alone."""

    wide: int
    near: int
    again: int
    few: bool
    mirrored: bool
    sign: np.float32
    first: np.float32
    widen: np.float32
    span: np.float32
    shape_step: np.float32
    shift: np.float32

    @classmethod
    def of(cls, fmt: Format) -> Plan:
        low, high = F(fmt.levels[0]), F(fmt.levels[-1])
        below = bool(-low > high)
        size = -low if below else high
        end = F(fmt.levels[1] - fmt.levels[0]) if below else F(fmt.levels[-1] - fmt.levels[-2])
        few, many = len(fmt.levels) <= 4, len(fmt.levels) >= 64
        wide = 4 if many else 8 if few else 16
        first = size - end
        if first < F(0.5) * size:
            first = F(0.5) * size
        widen, left = F(1) + F(32) * end / size, wide
        while left > 1:
            widen, left = np.sqrt(widen), left // 2
        span = high - low
        return cls(
            wide=wide,
            near=4 if many else 0 if few else 16,
            again=0 if many else AGAIN,
            few=few,
            mirrored=not many and bool(low != -high),
            sign=F(-1) if below else F(1),
            first=first,
            widen=widen,
            span=span,
            shape_step=(F(0.1) + F(3) / span) / F(SHAPES - 1),
            shift=F(0.6) + F(1.2) / span,
        )


def way(step: int, count: int) -> np.float32:
    return F(2 * step) / F(count - 1) - F(1)


class Search:
    """Keeps the best of the grids that are tried."""

    def __init__(self, levels: Levels, group: Group, affine: bool) -> None:
        self.levels, self.group, self.affine = levels, group, affine
        error = zero = np.zeros_like(group.weight)
        for j in range(group.x.shape[-1]):
            error = error + (group.w[..., j] * group.x[..., j]) * group.x[..., j]
        self.energy = error
        self.best = Fit(Grid(zero, zero), error, zero, zero)

    def try_grid(self, scale: F32, minimum: F32) -> None:
        at = Grid(scale, minimum)
        other = refit(moments_of(self.levels, self.group, at, self.affine), self.group, at, self.affine)
        self.keep_better(other)

    def try_few_levels(self, at: F32) -> None:
        xl = ll = zero = np.zeros_like(at)
        for j in range(self.group.x.shape[-1]):
            x = self.group.x[..., j]
            level = self.levels.nearest(x * inverse(at))
            wl = self.group.w[..., j] * level
            xl, ll = xl + wl * x, ll + wl * level
        scale = ratio(xl, ll)
        self.keep_better(Fit(Grid(scale, zero), self.energy - scale * xl, ll, zero))

    def keep_better(self, other: Fit) -> None:
        self.best = chosen(other.error < self.best.error, other, self.best)


def search_scale(levels: Levels, plan: Plan, group: Group) -> Fit:
    search = Search(levels, group, affine=False)
    zero = largest = np.zeros_like(group.weight)
    for j in range(group.x.shape[-1]):
        largest = choose(magnitude(group.x[..., j]) > magnitude(largest), group.x[..., j], largest)

    def try_scale(scale: F32) -> None:
        if plan.few:
            search.try_few_levels(scale)
        else:
            search.try_grid(scale, zero)

    candidate = plan.first
    for _ in range(plan.wide):
        scale = largest * (plan.sign / candidate)
        try_scale(scale)
        if plan.mirrored:
            try_scale(-scale)
        candidate = candidate * plan.widen
    middle = search.best.grid.scale
    for k in range(plan.near):
        try_scale(middle * (F(1) + (plan.widen - F(1)) * way(k, plan.near)))
    for _ in range(plan.again):
        try_scale(search.best.grid.scale)
    return search.best


def search_grid(levels: Levels, plan: Plan, group: Group) -> Fit:
    search = Search(levels, group, affine=True)
    low = high = group.x[..., 0]
    for j in range(group.x.shape[-1]):
        low, high = smaller(low, group.x[..., j]), larger(high, group.x[..., j])
    span, extent, middle = plan.span, high - low, (low + high) * F(0.5)
    shape: np.float32 = F(1.4)
    for _ in range(SHORT):
        scale = extent * (F(1) / (span * shape))
        outside: F32 = extent - scale * span
        for i in range(PLACES):
            place: np.float32 = F(i) / F(PLACES - 1)
            lowest: F32 = low + outside * place
            search.try_grid(scale, -lowest)
        shape = shape * F(1.35)
    for k in range(SHAPES):
        shape = F(0.9) + F(k) * plan.shape_step
        scale = extent * (F(1) / (span * shape))
        for i in range(SHIFTS):
            centre: np.float32 = F(0.5) * span + plan.shift * way(i, SHIFTS)
            search.try_grid(scale, scale * centre - middle)
    around = search.best.grid
    for k in range(AROUND):
        grown = F(0.1) * way(k, AROUND)
        scale = around.scale * (F(1) + grown)
        for i in range(AROUND):
            by: np.float32 = F(0.5) * span * grown + F(0.5) * way(i, AROUND)
            search.try_grid(scale, around.minimum + around.scale * by)
    for _ in range(AGAIN):
        search.try_grid(*search.best.grid)
    return search.best


def at_sign(levels: Levels, group: Group, fit: Fit, span: np.float32, sign: int) -> Fit:
    """The best grid among those whose minimum has the sign of ``sign`` (or is 0), as its scale has."""
    zero = np.zeros_like(group.weight)
    own = fit
    if sign < 0:
        own = replace(
            fit,
            grid=Grid(-fit.grid.scale, fit.grid.minimum - fit.grid.scale * span),
            l=group.weight * span - fit.l,
            ll=(group.weight * span - fit.l * F(2)) * span + fit.ll,
        )
    far = zero
    for j in range(group.x.shape[-1]):
        far = larger(far, group.x[..., j] * F(sign))
    edge = Fit(Grid(far * (F(sign) / span), zero), zero, zero, zero)
    for _ in range(2):
        sums = moments_of(levels, group, edge.grid, affine=True)
        step = ratio(sums.rl, sums.ll)
        edge = Fit(Grid(edge.grid.scale + step, zero), sums.error - step * sums.rl, sums.ll, sums.l)
    outside = own.grid.minimum * F(sign) < F(0)
    return replace(chosen(outside, edge, own), error=own.error)
