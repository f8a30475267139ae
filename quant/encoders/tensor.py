"""One tensor of the source -> its bytes in the new file, chunk of rows by chunk of rows.

Rows are encoded independently of each other, so neither the size of a chunk nor the number of threads changes
a bit of the result: not of the codes, and not of the error, which is measured on rows of a fixed choice and
summed exactly.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from quant.encoders.output_energy import OutputEnergy
from quant.encoders.rows import RowEncoder
from quant.errors import CannotEncode
from quant.files.layout import PlacedTensor
from quant.files.source import NUMBERS, Source, SourceTensor
from quant.files.work import FinishedTensor
from quant.files.writer import PartFile
from quant.formats.dequantize import dequantize
from quant.formats.format import F32, U8, Format
from quant.formats.registry import AnyFormat

F64 = NDArray[np.float64]

CHUNK_WEIGHTS: Final = 1 << 21
"""Weights of a chunk: 8 MiB as float32. A row that is longer is a chunk of its own."""
ROWS_TOGETHER: Final = 64
"""The encoders work on this many rows at once."""
MEASURED_ROWS: Final = 128
"""A tensor's error is measured on so many rows."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows ``start`` to ``stop`` of one expert's matrix."""

    expert: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows in their format; of some of them what their error, and they themselves, give in the output."""

    data: U8
    errors: F64
    energies: F64


class Coder(Protocol):
    """Rows -> bytes, each 64 of an expert's independently of the others; any thread may call it."""

    @property
    def feeds_back(self) -> bool:
        """Whether errors are fed back to columns that are not rounded yet."""
        ...

    def __call__(self, rows: F32, energy: OutputEnergy, measured: Sequence[int], /) -> EncodedRows:
        """The error is measured on the rows ``measured`` of ``rows`` [n, columns]."""
        ...


@dataclass(frozen=True)
class BlockCoder:
    """Rows in a format of ggml."""

    fmt: Format
    encoder: RowEncoder

    @property
    def feeds_back(self) -> bool:
        return self.encoder.feeds_back

    def __call__(self, rows: F32, energy: OutputEnergy, measured: Sequence[int], /) -> EncodedRows:
        return encode_rows(self.fmt, rows, self.encoder, energy, measured)


def chunks(tensor: SourceTensor, jobs: int = 1, weights: int = CHUNK_WEIGHTS) -> list[Chunk]:
    """The tensor in pieces that hold rows of one expert each, in order, if possible one for each job."""
    per_expert = tensor.rows // tensor.experts
    tiles = min(weights // tensor.columns // ROWS_TOGETHER, -(-per_expert // (ROWS_TOGETHER * jobs)))
    rows = max(tiles, 1) * ROWS_TOGETHER
    return [
        Chunk(expert, expert * per_expert + start, expert * per_expert + min(start + rows, per_expert))
        for expert in range(tensor.experts)
        for start in range(0, per_expert, rows)
    ]


def encode_rows(
    fmt: Format, rows: F32, encoder: RowEncoder, energy: OutputEnergy, measured: Sequence[int]
) -> EncodedRows:
    """``rows`` [n, columns] in ``fmt``; the error is measured on the rows ``measured`` of them."""
    data = fmt.pack(encoder(rows)).reshape(len(rows), fmt.row_bytes(rows.shape[1]))
    some = list(measured)
    original = rows[some]
    return EncodedRows(data, energy(original - dequantize(fmt, data[some])), energy(original))


def spread_rows(rows: int, count: int) -> list[int]:
    """At most ``count`` of ``rows`` rows, spread evenly, always the same."""
    count = min(count, rows)
    return [(2 * index + 1) * rows // (2 * count) for index in range(count)]


def encode_tensor(
    source: Source,
    tensor: SourceTensor,
    fmt: AnyFormat,
    statistics: InputStatistics | None,
    part: PartFile,
    placed: PlacedTensor,
    *,
    coder_of: Callable[[int], Coder],
    beside: Sequence[bytes] = (),
    pool: ThreadPoolExecutor,
    jobs: int,
    on_weights: Callable[[int], None],
) -> FinishedTensor:
    """Encodes a tensor into ``part`` with the coder of each expert, and writes what lies ``beside`` it.

    At most ``jobs`` + 1 chunks are in memory.

    Raises :class:`SourceDamaged` for weights that are no numbers, and :class:`CannotEncode` for weights that
    the format cannot hold, or statistics of another shape.
    """
    _require_matching(tensor, statistics)
    state = hashlib.sha256()
    position = placed.position
    errors: list[float] = []
    energies: list[float] = []
    feeds_back = False
    measured = spread_rows(tensor.rows, MEASURED_ROWS)
    coders: dict[int, Coder] = {}

    def work(chunk: Chunk, coder: Coder) -> EncodedRows:
        rows = source.rows(tensor, chunk.start, chunk.stop)
        some = [row - chunk.start for row in measured if chunk.start <= row < chunk.stop]
        try:
            return coder(rows, OutputEnergy(statistics, chunk.expert), some)
        except CannotEncode as error:
            raise CannotEncode(f"{tensor.name}, rows {chunk.start} to {chunk.stop - 1}: {error}") from error

    def tasks() -> Iterator[tuple[Chunk, Callable[[], EncodedRows]]]:
        nonlocal feeds_back
        for chunk in chunks(tensor, jobs):
            if chunk.expert not in coders:
                coders.clear()  # an expert's Hessian at a time
                coders[chunk.expert] = coder_of(chunk.expert)
                feeds_back |= coders[chunk.expert].feeds_back
            yield chunk, partial(work, chunk, coders[chunk.expert])

    for chunk, encoded in in_order(pool, jobs, tasks()):
        data = encoded.data.tobytes()
        part.write(position, data)
        state.update(data)
        position += len(data)
        errors += encoded.errors.tolist()
        energies += encoded.energies.tolist()
        on_weights((chunk.stop - chunk.start) * tensor.columns)
    for piece, data in zip(placed.beside, beside, strict=True):
        part.write(piece.position, data)
        state.update(data)
    error = relative(errors, energies)
    if not math.isfinite(error):
        raise CannotEncode(
            f"{tensor.name} in {fmt.name} gives values that are no numbers; keep the tensor as it is with "
            f"--tensor {tensor.name}=keep. Nothing was published"
        )
    return FinishedTensor(
        name=tensor.name,
        position=placed.position,
        beside=tuple(piece.position for piece in placed.beside),
        sha256=state.hexdigest(),
        encoder="feedback" if feeds_back else "nearest",
        error=error,
    )


def copy_tensor(
    source: Source,
    tensor: SourceTensor,
    part: PartFile,
    placed: PlacedTensor,
    on_weights: Callable[[int], None],
) -> FinishedTensor:
    """Takes a tensor over byte for byte. Raises :class:`SourceDamaged` for weights that are no numbers."""
    state = hashlib.sha256()
    position = placed.position
    for chunk in chunks(tensor):
        data = source.raw(tensor, chunk.start, chunk.stop)
        if tensor.type.name not in NUMBERS:
            source.rows(tensor, chunk.start, chunk.stop)
        part.write(position, data)
        state.update(data)
        position += len(data)
        on_weights((chunk.stop - chunk.start) * tensor.columns)
    return FinishedTensor(
        name=tensor.name,
        position=placed.position,
        sha256=state.hexdigest(),
        encoder="copied",
        error=None,
    )


def relative(errors: Iterable[float], energies: Iterable[float]) -> float:
    """Error over energy, both summed exactly; 0 for weights that give nothing."""
    error, energy = math.fsum(errors), math.fsum(energies)
    return error / energy if energy else 0.0


def in_order(
    pool: ThreadPoolExecutor, jobs: int, tasks: Iterator[tuple[Chunk, Callable[[], EncodedRows]]]
) -> Iterator[tuple[Chunk, EncodedRows]]:
    """Runs tasks on ``jobs`` threads and gives their results in order; no more than ``jobs`` + 1 are open."""
    waiting: deque[tuple[Chunk, Future[EncodedRows]]] = deque()
    try:
        for chunk, task in tasks:
            waiting.append((chunk, pool.submit(task)))
            if len(waiting) > jobs:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _require_matching(tensor: SourceTensor, statistics: InputStatistics | None) -> None:
    if statistics is None:
        return
    found = (len(statistics.tokens), statistics.columns)
    if found != (tensor.experts, tensor.columns):
        raise CannotEncode(
            f"calibration measured {found[0]} inputs of {found[1]} columns for {tensor.name}, which has "
            f"{tensor.experts} matrices of {tensor.columns} columns; calibrate again with this model"
        )
