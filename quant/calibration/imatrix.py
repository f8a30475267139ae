"""llama.cpp's importance matrices: the mean squares of inputs, without second moments.

Two forms are read, the GGUF of today and the ``.dat`` of before; the GGUF is written.

- GGUF: ``general.type`` = "imatrix", ``imatrix.datasets``, ``.chunk_count`` and ``.chunk_size``; for each
  matrix F32 ``<name>.in_sum2`` [columns, experts], sums of squares, and ``<name>.counts`` [1, experts].
- ``.dat``: i32 entries; each: i32 length, name, i32 calls, i32 values, float32 values, which are means times
  calls; then, perhaps: i32 chunks, i32 length, name of the text. Experts lie one after the other and share a
  count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from struct import Struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from quant.errors import QuantError
from quant.files.layout import Key, TensorEntry, lay_out
from runtime.gguf import ArrayRef, GgufHeader, GgufModel, open_gguf
from runtime.gguf import limits as gguf_limits
from runtime.gguf.header import file_identity
from runtime.gguf.magic import MAGIC
from runtime.gguf.source import Source, open_source
from runtime.gguf.values import ValueType

SUMS, COUNTS = ".in_sum2", ".counts"
F32: Final = 0
ALIGNMENT: Final = 32
MOST_TOKENS: Final = 1 << 53
_I32: Final = Struct("<i")


@dataclass(frozen=True)
class Imatrix:
    """An importance matrix file: tensor name -> statistics, and what they were taken of."""

    entries: Mapping[str, InputStatistics]
    datasets: tuple[str, ...] = ()
    chunk_count: int = 0
    chunk_size: int = 0
    """Tokens; 0 where the file does not say: then ``tokens`` of an entry are its calls."""

    def fitted(self, model: GgufModel) -> dict[str, InputStatistics]:
        """The entries of the model's tensors, split into its experts; tensors without an entry are missing.

        Raises QuantError for an entry whose length is not its tensor's: the file belongs to another model.
        """
        fitted: dict[str, InputStatistics] = {}
        for tensor in model.tensors:
            found = self.entries.get(tensor.name)
            if found is None:
                continue
            columns, experts = tensor.shape[0], prod(tensor.shape[2:])
            if found.mean_square.size != columns * experts or experts % len(found.tokens):
                raise QuantError(
                    f"the importance matrix has {found.mean_square.size} values for {tensor.name}, whose "
                    f"input has {columns * experts}; it belongs to another model"
                )
            tokens = np.repeat(found.tokens, experts // len(found.tokens))
            fitted[tensor.name] = InputStatistics(tokens, found.mean_square.reshape(experts, columns))
        return fitted


def read_imatrix(path: Path) -> Imatrix:
    """Reads a file that nobody vouches for. Raises GgufError, which names the entry that is wrong."""
    with open_source(path) as source:
        if source.take(min(len(MAGIC), source.size), "the magic") != MAGIC:
            source.seek(0)
            return _read_dat(source)
    return _read_gguf(open_gguf(path))


def write_imatrix(
    path: Path,
    statistics: Mapping[str, InputStatistics],
    *,
    datasets: Sequence[str] = (),
    chunk_size: int = 512,
) -> None:
    """Writes the GGUF that llama.cpp's tools take; a file that is there is replaced in one step.

    Raises QuantError for a name that ggml has no room for.
    """
    most = max((int(found.tokens.max()) for found in statistics.values()), default=0)
    keys = [
        Key("general.type", ValueType.STRING, "imatrix"),
        Key("imatrix.datasets", ValueType.STRING, list(datasets), array=True),
        Key("imatrix.chunk_count", ValueType.U32, -(-most // chunk_size)),
        Key("imatrix.chunk_size", ValueType.U32, chunk_size),
    ]
    entries: list[TensorEntry] = []
    data: list[NDArray[np.float32]] = []
    for name in sorted(statistics):
        if len(name + SUMS) > gguf_limits.TENSOR_NAME_BYTES:
            raise QuantError(f"the tensor name {name} is too long for an importance matrix file")
        found = statistics[name]
        experts, columns = found.mean_square.shape
        entries.append(TensorEntry(name + SUMS, F32, (columns, experts), 4 * columns * experts))
        data.append((found.mean_square * found.tokens[:, None]).astype("<f4"))
        entries.append(TensorEntry(name + COUNTS, F32, (1, experts), 4 * experts))
        data.append(found.tokens.astype("<f4"))
    layout = lay_out((), keys, entries, ALIGNMENT)
    temporary = path.with_name(path.name + ".partial")
    try:
        with temporary.open("wb") as file:
            file.write(layout.header)
            for placed, values in zip(layout.tensors, data, strict=True):
                file.seek(placed.position)
                file.write(values.tobytes())
            file.truncate(layout.size)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read_gguf(header: GgufHeader) -> Imatrix:
    tensors = {tensor.name: tensor for tensor in header.tensors}
    entries: dict[str, InputStatistics] = {}
    with open_source(header.path) as source:
        if file_identity(source.fd) != header.identity:
            raise source.refuse("changed", "was changed while it was read; try again when it is complete")
        if header.role != "imatrix":
            raise source.refuse("wrong-role", "is no importance matrix; give one that llama-imatrix wrote")

        def values(name: str) -> NDArray[np.float32]:
            source.seek(header.data_offset + tensors[name].offset)
            return np.frombuffer(source.take(tensors[name].nbytes, name), "<f4")

        for name in tensors:
            if name.endswith(SUMS):
                matrix = name.removesuffix(SUMS)
                sums, counts = values(name), values(matrix + COUNTS)
                entries[matrix] = _entry(source, matrix, sums, counts)
    datasets = header.metadata.get("imatrix.datasets")
    texts = header.read_array(datasets) if isinstance(datasets, ArrayRef) else []
    return Imatrix(
        entries,
        tuple(text.decode("utf-8", "replace") for text in texts if isinstance(text, bytes)),
        header.get("imatrix.chunk_count", int, 0),
        header.get("imatrix.chunk_size", int, 0),
    )


def _read_dat(source: Source) -> Imatrix:
    count = _i32(source, "the number of entries", 1, gguf_limits.TENSORS)
    entries: dict[str, InputStatistics] = {}
    for index in range(count):
        length = _i32(source, f"the length of name {index}", 1, gguf_limits.TENSOR_NAME_BYTES)
        raw = source.take(length, f"name {index}")
        name = raw.decode("ascii", "replace")
        if not name.isascii() or not name.isprintable() or name in entries:
            raise source.refuse(
                "bad-imatrix", f"entry {index} has the name {raw!r}, which is none or twice there"
            )
        calls = _i32(source, f"the calls of {name}", 0)
        values = _i32(source, f"the number of values of {name}", 1)
        source.require(4 * values, f"the values of {name}")
        data = np.frombuffer(source.take(4 * values, name), "<f4")
        entries[name] = _entry(source, name, data, np.array([calls], np.float32))
    if not source.remaining:
        return Imatrix(entries)
    chunks = _i32(source, "the number of chunks", 0)
    length = _i32(source, "the length of the text's name", 0) if source.remaining else 0
    dataset = source.take(length, "the text's name").decode("utf-8", "replace") if length else ""
    return Imatrix(entries, (dataset,) if dataset else (), chunks)


def _entry(
    source: Source, name: str, sums: NDArray[np.float32], counts: NDArray[np.float32]
) -> InputStatistics:
    """Means; 0 for an expert that never got a token."""
    if len(sums) % len(counts):
        raise source.refuse("bad-imatrix", f"{name} has {len(sums)} values for {len(counts)} experts")
    if not np.isfinite(sums).all() or (sums < 0).any():
        raise source.refuse("bad-imatrix", f"{name} has values that are no sums of squares")
    if not ((counts >= 0) & (counts < MOST_TOKENS) & (counts == np.floor(counts))).all():
        raise source.refuse("bad-imatrix", f"{name} has counts that are no numbers of tokens")
    tokens = counts.astype(np.int64)
    means = sums.reshape(len(counts), -1).astype(np.float64) / np.maximum(tokens, 1)[:, None]
    return InputStatistics(tokens, np.where(tokens[:, None] > 0, means, 0).astype(np.float32))


def _i32(source: Source, what: str, least: int, most: int = (1 << 31) - 1) -> int:
    value: int = source.unpack(_I32, what)[0]
    if not least <= value <= most:
        raise source.refuse("bad-imatrix", f"is no importance matrix: {what} is {value}")
    return value
