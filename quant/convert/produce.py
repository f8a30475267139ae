"""The bytes of the tensors to write, piece by piece in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quant.convert.checkpoint import Checkpoint
from quant.convert.numbers import decode, encode, stored
from quant.convert.recipe import Recipe
from quant.convert.safetensors import StoredTensor
from quant.errors import CannotConvert, CheckpointDamaged
from quant.files.writer import PartFile

CHUNK_BYTES: Final = 4 << 20
"""Of a tensor in memory at once; one head of attention where that is more."""
COPY_BYTES: Final = 64 << 20
"""Copied at once, without passing through memory of ours."""


def produce(checkpoint: Checkpoint, recipe: Recipe, part: PartFile, position: int) -> Iterator[int]:
    """Writes the tensor's bytes at ``position`` of ``part``, and tells how many with each step.

    Raises :class:`CheckpointDamaged`, and :class:`CannotConvert` where a value does not fit into float16.
    """
    if recipe.values is not None:
        data = _bytes(encode(recipe.dtype, recipe.values))
        part.write(position, data)
        yield len(data)
    for piece in recipe.pieces:
        steps = _copied if is_copied(recipe, piece) else _changed
        for written in steps(checkpoint, recipe, piece, part, position):
            position += written
            yield written


def is_copied(recipe: Recipe, piece: StoredTensor) -> bool:
    """Whether the piece's bytes are written as they are."""
    return piece.dtype == recipe.dtype and not recipe.change.heads and not recipe.change.shift


def _copied(
    checkpoint: Checkpoint, recipe: Recipe, piece: StoredTensor, part: PartFile, position: int
) -> Iterator[int]:
    start = recipe.change.skip_rows * piece.row_bytes
    while start < piece.nbytes:
        count = min(COPY_BYTES, piece.nbytes - start)
        try:
            part.copy(checkpoint.file(piece.path), piece.position + start, position, count)
        except EOFError:
            raise CheckpointDamaged(
                piece.path, "shrunk", f"became shorter while {piece.name} was read"
            ) from None
        yield count
        start, position = start + count, position + count


def _changed(
    checkpoint: Checkpoint, recipe: Recipe, piece: StoredTensor, part: PartFile, position: int
) -> Iterator[int]:
    heads = recipe.change.heads
    scales = _scales(checkpoint, recipe, piece)
    together = piece.rows // heads if heads else 1
    step = max(CHUNK_BYTES // (piece.row_bytes * together), 1) * together
    for start in range(recipe.change.skip_rows, piece.rows, step):
        stop = min(start + step, piece.rows)
        rows = stored(piece.dtype, checkpoint.read(piece, start, stop)).reshape(stop - start, piece.columns)
        if piece.dtype != recipe.dtype or recipe.change.shift:
            rows = _converted(checkpoint, recipe, piece, rows, scales, start)
        data = _bytes(interleave(rows, together) if heads else rows)
        part.write(position, data)
        yield len(data)
        position += len(data)


def interleave(rows: NDArray[Any], head: int) -> NDArray[Any]:
    """Rows of whole heads, ``head`` rows each, with the second half of a head between the rows of its
    first."""
    halves = rows.reshape(-1, 2, head // 2, rows.shape[1])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _converted(
    checkpoint: Checkpoint,
    recipe: Recipe,
    piece: StoredTensor,
    rows: NDArray[Any],
    scales: NDArray[np.float32] | None,
    start: int,
) -> NDArray[Any]:
    """Rows from ``start`` on, scaled, shifted and rounded to the type to write."""
    values = decode(piece.dtype, rows)
    if scales is not None and recipe.scaling is not None:
        values = values * recipe.scaling.of_rows(piece, scales, start, start + len(rows))
    if recipe.change.shift:
        values = values + np.float32(recipe.change.shift)
    if recipe.dtype == "Q8_0" and not np.isfinite(values).all():
        raise CheckpointDamaged(
            piece.path, "not-a-number", f"has a weight in {piece.name} that is no finite number"
        )
    encoded = encode(recipe.dtype, values)
    if recipe.dtype == "F16" and not np.isfinite(encoded).all() and np.isfinite(values).all():
        raise CannotConvert(
            checkpoint.folder,
            f"a value of {piece.name}, {float(np.abs(values).max()):g}, does not fit into F16; "
            "take --outtype bf16",
        )
    return encoded


def _scales(checkpoint: Checkpoint, recipe: Recipe, piece: StoredTensor) -> NDArray[np.float32] | None:
    scale = recipe.scaling.scales.get(piece.name) if recipe.scaling else None
    if scale is None:
        return None
    values = decode(scale.dtype, stored(scale.dtype, checkpoint.read(scale, 0, scale.rows)))
    if not np.isfinite(values).all():
        raise CheckpointDamaged(scale.path, "bad-scale", f"has scales in {scale.name} that are no numbers")
    return values


def _bytes(array: NDArray[Any]) -> memoryview:
    return memoryview(np.ascontiguousarray(array).data).cast("B")
