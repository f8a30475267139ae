"""llama.cpp's importance matrices: the mean squares of inputs, without second moments.

Two forms are read, the GGUF of today and the ``.dat`` of before; the GGUF is written.

- GGUF: ``general.type`` = "imatrix", ``imatrix.datasets``, ``.chunk_count`` and ``.chunk_size``; for each
  matrix F32 ``<name>.in_sum2`` [columns, experts], sums of squares, and ``<name>.counts`` [1, experts].
- ``.dat``: i32 entries; each: i32 length, name, i32 calls, i32 values, float32 values, which are means times
  calls; then, perhaps: i32 chunks, i32 length, name of the text. Experts lie one after the other and share a
  count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path, PureWindowsPath
from struct import Struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quant.calibration.statistics import InputStatistics
from quant.errors import QuantError
from quant.files.layout import Key, TensorEntry, lay_out
from quant.names import plain_name
from runtime.errors import GgufError
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
MOST_DATASETS: Final = 16
MOST_CHARACTERS: Final = 255
"""Of the datasets that a certificate names, and of a name."""
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


@dataclass(frozen=True, slots=True)
class ImatrixFile:
    """A file to quantize with, as the certificate names it."""

    path: Path
    nbytes: int
    sha256: str
    tokens: int
    """The most that a matrix saw; where the file does not say, its calls."""
    datasets: tuple[str, ...]
    """Names of files or texts, without folders."""

    @property
    def name(self) -> str:
        """Of the file, without its folder."""
        return plain_name(self.path.name)


def look_into(path: Path) -> ImatrixFile:
    """Reads and validates a file, and remembers what it is. Raises GgufError."""
    found = read_imatrix(path)
    return ImatrixFile(
        path=path,
        nbytes=path.stat().st_size,
        sha256=_sha256(path),
        tokens=max((int(entry.tokens.max()) for entry in found.entries.values()), default=0),
        datasets=tuple(
            PureWindowsPath(name).name[:MOST_CHARACTERS] for name in found.datasets[:MOST_DATASETS]
        ),
    )


def read_again(file: ImatrixFile) -> Imatrix:
    """The matrix in a file that was looked into. Raises GgufError (``changed``) where it is another one."""
    found = read_imatrix(file.path)
    if _sha256(file.path) != file.sha256:
        raise GgufError(file.path, "changed", "was changed while it was used; start again with the new one")
    return found


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
    for name in sorted(statistics):
        if len(name + SUMS) > gguf_limits.TENSOR_NAME_BYTES:
            raise QuantError(f"the tensor name {name} is too long for an importance matrix file")
        experts, columns = statistics[name].mean_square.shape
        entries.append(TensorEntry(name + SUMS, F32, (columns, experts), 4 * columns * experts))
        entries.append(TensorEntry(name + COUNTS, F32, (1, experts), 4 * experts))
    layout = lay_out((), keys, entries, ALIGNMENT)
    temporary = path.with_name(path.name + ".partial")
    try:
        with temporary.open("wb") as file:
            file.write(layout.header)
            for placed in layout.tensors:  # one by one: those of many experts are large
                file.seek(placed.position)
                file.write(_values(statistics, placed.entry.name).tobytes())
            file.truncate(layout.size)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _values(statistics: Mapping[str, InputStatistics], name: str) -> NDArray[np.float32]:
    """The sums or the counts that a tensor of the file holds."""
    if name.endswith(COUNTS):
        return statistics[name.removesuffix(COUNTS)].tokens.astype("<f4")
    found = statistics[name.removesuffix(SUMS)]
    sums: NDArray[np.float32] = (found.mean_square * found.tokens[:, None]).astype("<f4")
    return sums


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
