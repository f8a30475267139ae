"""Scales and minima of many rows, row by row: how error feedback holds a format's grids while they change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.formats.format import F32, U8, Blocks, Format
from runtime.kernels.scale_search import FormatShape
from runtime.kernels.signatures import FormatData


@dataclass(frozen=True)
class Grids:
    """The grids of [rows, columns], all in float32; what the format lacks is None."""

    scale: F32
    """[rows, blocks of a row]: values of fp16."""
    minimum: F32 | None
    """[rows, blocks of a row]: values of fp16."""
    scales: F32 | None
    """[rows, groups of a row]: integers."""
    minima: F32 | None
    """[rows, groups of a row]: integers."""

    @classmethod
    def of(cls, blocks: Blocks, rows: int) -> Grids:
        """Those of the blocks of ``rows`` rows."""
        return cls(
            _by_row(blocks.scale, rows),
            None if blocks.minimum is None else _by_row(blocks.minimum, rows),
            None if blocks.scales is None else _by_row(blocks.scales, rows),
            None if blocks.minima is None else _by_row(blocks.minima, rows),
        )

    @classmethod
    def zeros(cls, fmt: Format, rows: int, columns: int) -> Grids:
        """As many as ``rows`` rows of ``columns`` have."""
        blocks, groups = (rows, columns // fmt.block), (rows, columns // fmt.group)
        return cls(
            np.zeros(blocks, np.float32),
            np.zeros(blocks, np.float32) if fmt.affine else None,
            None if fmt.scale_range is None else np.zeros(groups, np.float32),
            None if fmt.minima_high is None else np.zeros(groups, np.float32),
        )

    def part(self, fmt: Format, rows: slice, columns: slice) -> Grids:
        """Views of those of some rows and columns, which are whole blocks."""
        blocks = slice(columns.start // fmt.block, columns.stop // fmt.block)
        groups = slice(columns.start // fmt.group, columns.stop // fmt.group)
        return Grids(
            self.scale[rows, blocks],
            None if self.minimum is None else self.minimum[rows, blocks],
            None if self.scales is None else self.scales[rows, groups],
            None if self.minima is None else self.minima[rows, groups],
        )

    def effective(self, fmt: Format) -> tuple[F32, F32 | None]:
        """Scales and minima [rows, groups of a row]: a weight is scale * level - minimum."""
        scales = _effective(self.scale, self.scales, fmt.groups)
        return scales, None if self.minimum is None else _effective(self.minimum, self.minima, fmt.groups)

    def set(self, other: Grids) -> None:
        """Takes over the values of ``other``, of the same shapes."""
        for mine, its in zip(self._arrays(), other._arrays(), strict=True):
            if mine is not None and its is not None:
                mine[...] = its

    def blocks(self, codes: U8) -> Blocks:
        """As blocks, with ``codes`` [blocks, block]."""
        return Blocks(
            codes,
            self.scale.reshape(-1).astype(np.float16),
            None if self.minimum is None else self.minimum.reshape(-1).astype(np.float16),
            None if self.scales is None else self.scales.reshape(len(codes), -1).astype(np.int8),
            None if self.minima is None else self.minima.reshape(len(codes), -1).astype(np.uint8),
        )

    def _arrays(self) -> tuple[F32 | None, ...]:
        return self.scale, self.minimum, self.scales, self.minima


def format_data(fmt: Format) -> FormatData:
    """``fmt`` as the kernels have it."""
    shape = FormatShape(fmt.block, fmt.group, fmt.levels, fmt.affine, fmt.scale_range, fmt.minima_high)
    return shape.data()


def _by_row(values: NDArray[Any], rows: int) -> F32:
    return np.ascontiguousarray(values.reshape(rows, -1), dtype=np.float32)


def _effective(of_blocks: F32, of_groups: F32 | None, groups: int) -> F32:
    spread = np.repeat(of_blocks, groups, axis=1)
    return spread if of_groups is None else spread * of_groups
