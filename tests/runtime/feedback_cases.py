"""Rows on the grids of many kinds of formats, and error feedback on them in plain NumPy."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.kernels import tiles
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
