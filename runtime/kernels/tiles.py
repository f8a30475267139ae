"""Rows of a matrix in tiles of 64, on which error feedback runs: the kernels ``feedback/``.

A tile holds 64 rows, column by column in the order in which columns are rounded. Nothing here depends on how
a matrix was split into rows, nor on the instruction set.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.bindings import backend, plain_library
from runtime.kernels.moments import aligned
from runtime.kernels.signatures import FeedbackData, FormatData, RefinementData, TrellisData

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]

TILE_ROWS = 64
"""``LOCALQ_TILE_ROWS``"""


REFINE_COLUMNS = 256
"""``LOCALQ_REFINE_COLUMNS``: columns that are refined together at most."""
REFINE_WORKSPACE = 65536
"""``LOCALQ_REFINE_WORKSPACE``"""
TRELLIS_WORKSPACE = 65536
"""``LOCALQ_TRELLIS_WORKSPACE``"""


class Start(IntEnum):
    """What targets start from: ``LOCALQ_FROM_...``"""

    TARGETS = 0
    WEIGHTS = 1
    ZERO = 2


def load(rows: F32, order: U32) -> F32:
    """[rows, columns], rows contiguous -> [tiles, len(order), 64]; columns ``order`` of it."""
    _check_rows(rows, np.float32, order)
    tiles = aligned(-(-rows.shape[0] // TILE_ROWS) * order.size * TILE_ROWS).reshape(
        -1, order.size, TILE_ROWS
    )
    plain_library().localq_tiles_load_f32(
        rows.ctypes.data,
        rows.shape[0],
        rows.strides[0] // 4,
        order.ctypes.data,
        order.size,
        tiles.ctypes.data,
    )
    return tiles


def store(tiles: F32 | U8, order: U32, rows: F32 | U8) -> None:
    """The inverse of :func:`load`, into columns ``order`` of ``rows``, of the type of ``tiles``."""
    _check_rows(rows, tiles.dtype, order)
    if tiles.shape != (-(-rows.shape[0] // TILE_ROWS), order.size, TILE_ROWS) or not tiles.flags.c_contiguous:
        raise ValueError(f"tiles have shape {tiles.shape}; the rows have shape {rows.shape}")
    library = plain_library()
    function = library.localq_tiles_store_u8 if tiles.dtype == np.uint8 else library.localq_tiles_store_f32
    stride = rows.strides[0] // rows.itemsize
    function(tiles.ctypes.data, rows.shape[0], stride, order.ctypes.data, order.size, rows.ctypes.data)


def _check_rows(rows: F32 | U8, dtype: np.dtype[np.generic] | type, order: U32) -> None:
    if rows.dtype != dtype or rows.ndim != 2 or rows.strides[1] != rows.itemsize:
        raise ValueError(f"rows are {rows.dtype} {rows.shape}; they must be contiguous rows of {dtype}")
    if order.dtype != np.uint32 or order.ndim != 1 or not order.flags.c_contiguous:
        raise ValueError(f"order is {order.dtype} {order.shape}; it must be contiguous uint32")
    if order.size and int(order.max()) >= rows.shape[1]:
        raise ValueError(f"order names column {int(order.max())} of {rows.shape[1]}")


@dataclass(frozen=True)
class StoredGrid:
    """Scales and minima as a format stores them, in tiles; what it lacks is None. Refinement changes them."""

    scale: F32
    """[tiles, blocks, 64]: values of fp16."""
    minimum: F32 | None
    """[tiles, blocks, 64]: values of fp16."""
    scales: F32 | None
    """[tiles, groups, 64]: integers."""
    minima: F32 | None
    """[tiles, groups, 64]: integers."""


@dataclass(frozen=True)
class Descent:
    """How refinement steps down."""

    steps: F32
    """[columns]: 1 / (diagonal of the Hessian + ridge)."""
    ridge: float
    """What is added to the diagonal of the Hessian."""
    passes: int
    """How often codes, then scales of groups, then those of blocks are gone through."""


@dataclass
class FeedbackTiles:
    """Rows under error feedback. Arrays are contiguous; ``load`` makes those in tiles."""

    weights: F32
    """[tiles, columns, 64]; columns are a multiple of 4."""
    scales: F32
    """[tiles, groups, 64]: effective scales of the groups."""
    minima: F32 | None
    """[tiles, groups, 64]: effective minima, None where there are none."""
    group_of: U32
    """[columns]: the group of a column."""
    coefficients: F32
    """[columns, columns]: what the error of column i adds to the target of row k."""
    isa: str | None = None
    errors: F32 = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    """[tiles, columns, 64]: weight - value of its code, for the columns that were rounded; made when
    missing."""
    codes: U8 = field(default_factory=lambda: np.empty(0, dtype=np.uint8))
    """[tiles, columns, 64]; made when missing."""

    def __post_init__(self) -> None:
        columns = self.weights.shape[1]
        if columns % 4:
            raise ValueError(f"{columns} columns; they must be a multiple of 4")
        if self.group_of.shape != (columns,) or self.coefficients.shape != (columns, columns):
            raise ValueError(
                f"group_of {self.group_of.shape} and coefficients {self.coefficients.shape} do not fit"
                f" {columns} columns"
            )
        if columns and int(self.group_of.max()) >= self.scales.shape[1]:
            raise ValueError(f"group_of names group {int(self.group_of.max())} of {self.scales.shape[1]}")
        if self.errors.size == 0:
            self.errors = aligned(self.weights.size).reshape(self.weights.shape)
        if self.codes.size == 0:
            self.codes = np.empty(self.weights.shape, dtype=np.uint8)
        if self.errors.shape != self.weights.shape or self.codes.shape != self.weights.shape:
            raise ValueError(f"errors {self.errors.shape}, codes {self.codes.shape}: not as the weights")
        self._kernels = backend(self.isa)

    def _data(self) -> FeedbackData:
        for array in (
            self.weights,
            self.scales,
            self.minima,
            self.coefficients,
            self.group_of,
            self.errors,
            self.codes,
        ):
            if array is not None and not array.flags.c_contiguous:
                raise ValueError("an array of the tiles is not contiguous")
        return FeedbackData(
            self.weights.shape[0],
            self.weights.shape[1],
            self.scales.shape[1],
            self.weights.ctypes.data,
            self.errors.ctypes.data,
            self.codes.ctypes.data,
            self.scales.ctypes.data,
            None if self.minima is None else self.minima.ctypes.data,
            self.group_of.ctypes.data,
            self.coefficients.ctypes.data,
        )

    def targets(
        self,
        first: int,
        last: int,
        errors: tuple[int, int],
        start: Start = Start.WEIGHTS,
        into: F32 | None = None,
    ) -> F32:
        """[tiles, last - first, 64]: ``start`` + errors of columns ``errors`` (a range) * coefficients.

        All four are multiples of 4. ``into`` is used and returned if given.
        """
        tiles, columns, _ = self.weights.shape
        if not (0 <= first <= last <= columns and 0 <= errors[0] <= errors[1] <= columns):
            raise ValueError(f"columns {first} to {last}, errors {errors}: not within {columns} columns")
        if first % 4 or last % 4 or errors[0] % 4 or errors[1] % 4:
            raise ValueError(f"columns {first} to {last}, errors {errors}: not multiples of 4")
        shape = (tiles, last - first, TILE_ROWS)
        found = aligned(tiles * (last - first) * TILE_ROWS).reshape(shape) if into is None else into
        if found.shape != shape or not found.flags.c_contiguous:
            raise ValueError(f"targets have shape {found.shape}; they must have {shape}")
        self._kernels.feedback_targets_f32(
            ctypes.byref(self._data()), first, last, *errors, int(start), found.ctypes.data
        )
        return found

    def round(self, fmt: FormatData, first: int, targets: F32) -> None:
        """Rounds the columns from ``first`` that ``targets`` [tiles, columns of the block, 64] are of.

        To ``targets`` the errors of columns before each within the block are added.
        """
        last = first + targets.shape[1]
        if first % 4 or last % 4 or last > self.weights.shape[1] or not targets.flags.c_contiguous:
            raise ValueError(f"columns {first} to {last} of {self.weights.shape[1]}: not a block of fours")
        self._kernels.feedback_round_f32(
            ctypes.byref(self._data()), ctypes.byref(fmt), first, last, targets.ctypes.data
        )

    def round_words(self, trellis: TrellisData, first: int, targets: F32) -> None:
        """As :meth:`round`, to words of a trellis; codes become states. Rows have one scale and no minimum.

        Columns are whole words: multiples of 4, of 8 where a symbol has one bit.
        """
        last, unit = first + targets.shape[1], 8 if trellis.symbol_bits == 1 else 4
        if first % unit or last % unit or last > self.weights.shape[1] or not targets.flags.c_contiguous:
            raise ValueError(f"columns {first} to {last} of {self.weights.shape[1]}: not words of {unit}")
        if not 1 <= trellis.symbol_bits <= 4 or trellis.state_bits not in (4, 6, 8):
            raise ValueError(
                f"symbols of {trellis.symbol_bits} and states of {trellis.state_bits} bits: must be"
                " 1 to 4, and 4, 6 or 8"
            )
        if self.scales.shape[1] != 1 or self.minima is not None:
            raise ValueError("rows in words of a trellis have one scale and no minimum")
        workspace = aligned(TRELLIS_WORKSPACE)
        self._kernels.trellis_round_f32(
            ctypes.byref(self._data()),
            ctypes.byref(trellis),
            first,
            last,
            targets.ctypes.data,
            workspace.ctypes.data,
        )

    def refine(self, fmt: FormatData, stored: StoredGrid, step: Descent, first: int, outside: F32) -> None:
        """Lowers the loss of the columns from ``first`` that ``outside`` [tiles, columns, 64] is of.

        These are whole blocks of the format, as the columns lie; the coefficients are the Hessian, symmetric.
        ``outside`` are gradients: targets from zero of the errors outside these columns. Changes codes,
        errors, scales and minima, ``stored`` among them; the loss does not rise but by rounding.
        """
        last = first + outside.shape[1]
        if first % fmt.block or last % fmt.block or last > self.weights.shape[1]:
            raise ValueError(f"columns {first} to {last} are not whole blocks of {fmt.block}")
        if last - first > REFINE_COLUMNS or not outside.flags.c_contiguous:
            raise ValueError(f"columns {first} to {last} are more than {REFINE_COLUMNS} at once")
        arrays = (stored.scale, stored.minimum, stored.scales, stored.minima)
        data = RefinementData(
            *(None if array is None else array.ctypes.data for array in arrays),
            step.steps.ctypes.data,
            step.ridge,
            step.passes,
        )
        workspace = aligned(REFINE_WORKSPACE)
        self._kernels.feedback_refine_f32(
            ctypes.byref(self._data()),
            ctypes.byref(fmt),
            ctypes.byref(data),
            first,
            last,
            outside.ctypes.data,
            workspace.ctypes.data,
        )
