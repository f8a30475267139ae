"""Sums over the rows that a matrix multiplies: tokens, squares, squared peaks of blocks, second moments; and
the extremes of each batch."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.moments import gram, in_parts, mirror

SLICE = 256
"""Rows whose squares are summed in float32, before the sum goes on in float64."""
THREADED = 1 << 18
"""Values from which on threads pay."""
INPUT_BLOCKS = (32, 256)
"""Values that share a scale where ggml rounds an input to bytes."""
EXTREMES_BLOCK = 32
"""Columns of which the extremes are kept, where it divides a row."""
WRITE_BYTES = 8 << 20
MOST = float(np.finfo(np.float32).max)
"""Of a sum of squares: second moments are summed in float32."""


def peak_blocks(columns: int) -> list[tuple[int, int]]:
    """The sizes of block in which a row of ``columns`` may be rounded to bytes, and how many it has."""
    return [(size, columns // size) for size in INPUT_BLOCKS if columns % size == 0]


def extremes_count(columns: int) -> int:
    """Blocks of a row of which the extremes are kept."""
    return columns // EXTREMES_BLOCK if columns % EXTREMES_BLOCK == 0 else 0


def sums_bytes(matrices: int, columns: int, block: int, batches: int) -> int:
    """Length of the file that :meth:`Accumulator.write` writes after so many ``batches``."""
    sums = matrices * (columns * (1 + block) + sum(count for _, count in peak_blocks(columns)))
    return 4 * (sums + batches * extremes_count(columns))


class Accumulator:
    """Sums for an input of ``columns`` that each of ``matrices`` gets rows of.

    ``block`` columns have second moments with each other, none for 0. The bits of all sums depend on the rows
    of each :meth:`add` and their order, never on ``threads``.
    """

    def __init__(self, columns: int, matrices: int, block: int, threads: int) -> None:
        self.tokens = np.zeros(matrices, np.int64)
        self.squares = np.zeros((matrices, columns), np.float64)
        self.peaks = {size: np.zeros((matrices, count), np.float64) for size, count in peak_blocks(columns)}
        blocks = columns // block if block else 0
        self.moments = np.zeros((matrices, blocks, block, block), np.float32)
        self.extremes: list[NDArray[np.float32]] = []
        """Of each batch: the largest magnitude in each block of columns, whichever matrix had it."""
        self._batch = np.zeros(extremes_count(columns), np.float32)
        self._threads = threads

    def add(self, rows: NDArray[np.float32], matrix: int = 0) -> None:
        """Takes rows [tokens, columns] into the sums of one matrix."""
        if len(rows) == 0:
            return
        self.tokens[matrix] += len(rows)
        columns = rows.shape[1]
        parts = self._threads if rows.size >= THREADED else 1

        def add_squares(part: int) -> None:
            begin, end = columns * part // parts, columns * (part + 1) // parts
            for first in range(0, len(rows), SLICE):
                piece = rows[first : first + SLICE, begin:end]
                self.squares[matrix, begin:end] += np.einsum("tc,tc->c", piece, piece)

        in_parts(add_squares, parts)
        for size, sums in self.peaks.items():
            blocks = rows.reshape(len(rows), -1, size)
            peaks = np.maximum(blocks.max(axis=2), -blocks.min(axis=2))
            sums[matrix] += np.einsum("tb,tb->b", peaks, peaks, dtype=np.float64)
            if size == EXTREMES_BLOCK:
                np.maximum(self._batch, peaks.max(axis=0), out=self._batch)
        if self.moments.size:
            gram(np.ascontiguousarray(rows), self.moments[matrix], threads=parts)

    def add_routed(self, rows: NDArray[np.float32], experts: NDArray[np.int32]) -> None:
        """Takes the rows that each expert got.

        ``experts``: [tokens, used]; ``rows``: [tokens, used, columns], or [tokens, 1, columns] where all
        experts of a token get the same row.
        """
        used = experts.shape[1]
        order = np.argsort(experts, axis=None, kind="stable")
        chosen, starts = np.unique(experts.reshape(-1)[order], return_index=True)
        for expert, places in zip(chosen.tolist(), np.split(order, starts[1:]), strict=True):
            self.add(rows[places // used, places % used % rows.shape[1]], expert)

    def end_batch(self) -> None:
        """Behind the rows of each batch: their extremes are complete."""
        self.extremes.append(self._batch)
        self._batch = np.zeros_like(self._batch)

    @property
    def finite(self) -> bool:
        """Whether no sum overflowed and no row held NaN or infinity.

        No second moment is larger than the larger of its two columns' squares (Cauchy and Schwarz), so those
        of squares within float32 have not overflowed either.
        """
        return bool((self.squares < MOST).all())

    def write(self, path: Path) -> str:
        """Writes the means as :class:`runtime.engine.observation.ObservedInput` has them; answers the sha256.

        The sums are used up.
        """
        count = np.maximum(self.tokens, 1)
        mean = (self.squares / count[:, None]).astype("<f4")
        for matrix, moments in enumerate(self.moments):
            if moments.size:
                moments /= np.float32(count[matrix])
                mirror(moments)
        digest = hashlib.sha256()
        with path.open("xb") as file:
            peaks = [(sums / count[:, None]).astype("<f4") for sums in self.peaks.values()]
            extremes = [batch.astype("<f4", copy=False) for batch in self.extremes]
            for array in (mean, self.moments.astype("<f4", copy=False), *peaks, *extremes):
                data = array.reshape(-1).view(np.uint8)
                for begin in range(0, len(data), WRITE_BYTES):
                    digest.update(data[begin : begin + WRITE_BYTES].data)
                    file.write(data[begin : begin + WRITE_BYTES].data)
        return digest.hexdigest()
