"""Reading the header of a safetensors file that nobody vouches for.

The format: eight bytes with the header's length, a JSON object of tensors, then their data without a gap
(https://github.com/huggingface/safetensors, "Format"). Stricter than the reference: a name may stand once, is
of plain characters, and the header is shorter. Files are read with ``pread``, never mapped: a mapped file
that shrinks kills its reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from quant.convert.json_file import parse
from quant.errors import CheckpointDamaged
from runtime.errors import GgufError
from runtime.gguf.source import open_source

HEADER_BYTES: Final = 16 << 20
"""The longest real headers, of files with thousands of experts, take some 700 KiB."""
TENSORS: Final = 100_000
DIMENSIONS: Final = 8
NAME: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9_.:/-]{1,256}")
FIELDS: Final = ("dtype", "shape", "data_offsets")
METADATA_KEY: Final = "__metadata__"

DTYPES: Final[Mapping[str, int]] = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
}
"""Bytes of an element."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a safetensors file, and where its bytes lie."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    """Slowest dimension first, as torch has it; empty for a scalar."""
    path: Path
    position: int
    """In the file, of its first byte."""
    nbytes: int

    @property
    def columns(self) -> int:
        """Length of a row; a vector has rows of one element."""
        return self.shape[-1] if len(self.shape) > 1 else 1

    @property
    def rows(self) -> int:
        return self.nbytes // (self.columns * DTYPES[self.dtype])

    @property
    def row_bytes(self) -> int:
        return self.columns * DTYPES[self.dtype]


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of the file at ``path`` by name. Raises :class:`CheckpointDamaged` at the first broken
    rule."""
    try:
        with open_source(path) as source:
            size = source.size
            if size < 8:
                raise _refuse(path, "truncated", f"has {size} bytes, too few for a safetensors file")
            length = source.u64("the header's length")
            if length > HEADER_BYTES:
                raise _refuse(
                    path,
                    "header-too-long",
                    f"claims a header of {length} bytes, at most {HEADER_BYTES} are accepted: "
                    "it is no safetensors file, or a damaged one",
                )
            raw = source.take(length, "the header")
    except GgufError as error:
        raise _refuse(path, error.rule, error.reason.replace(", not a GGUF file", "")) from error
    tensors = _tensors(path, raw, 8 + length)
    _check_places(path, tensors, 8 + length, size)
    return tensors


def _tensors(path: Path, raw: bytes, data: int) -> dict[str, StoredTensor]:
    entries = parse(path, raw, object_pairs_hook=_Pairs(path))
    if not isinstance(entries, dict):
        raise _refuse(path, "wrong-type", "has a header that is not a JSON object")
    entries.pop(METADATA_KEY, None)
    return {name: _tensor(path, name, entry, data) for name, entry in entries.items()}


class _Pairs:
    """Objects of the header: no key twice, and not more of them than tensors may be.

    What describes a tensor becomes a tuple of :data:`FIELDS`, a third of a dictionary's size.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._objects = 0

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any] | tuple[Any, ...]:
        self._objects += 1
        if self._objects > TENSORS + 2:
            raise _refuse(self._path, "too-many-tensors", f"has more than the {TENSORS} tensors accepted")
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _refuse(self._path, "duplicate-key", f"has the key {twice[:80]!r} twice in its header")
        return tuple(found[field] for field in FIELDS) if found.keys() == set(FIELDS) else found


def _tensor(path: Path, name: str, entry: Any, data: int) -> StoredTensor:
    if not NAME.fullmatch(name):
        raise _refuse(path, "bad-name", f"has a tensor called {name[:80]!r}, which is no plain name")
    if not isinstance(entry, tuple):
        raise _refuse(path, "wrong-type", f"does not describe the tensor {name} as safetensors do")
    dtype, shape, offsets = entry
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _refuse(path, "bad-dtype", f"has the tensor {name} in the unknown type {str(dtype)[:40]!r}")
    if not _whole(shape) or len(shape) > DIMENSIONS or not _whole(offsets) or len(offsets) != 2:
        raise _refuse(path, "wrong-type", f"gives the tensor {name} an impossible shape or place")
    begin, end = offsets
    nbytes = DTYPES[dtype]
    for dimension in shape:
        nbytes *= dimension
    if end - begin != nbytes:
        raise _refuse(
            path, "bad-size", f"keeps the tensor {name} in {end - begin} bytes, its shape needs {nbytes}"
        )
    if nbytes == 0:
        raise _refuse(path, "empty-tensor", f"has the tensor {name} without elements")
    return StoredTensor(name, dtype, tuple(shape), path, data + begin, nbytes)


def _whole(values: Any) -> bool:
    """Whether ``values`` is a list of numbers that count something in a file."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _check_places(path: Path, tensors: dict[str, StoredTensor], data: int, size: int) -> None:
    """The tensors' data fill the file from the header to its end, without a hole or an overlap."""
    placed = sorted(tensors.values(), key=lambda tensor: tensor.position)
    starts = [tensor.position for tensor in placed] + [size]
    if starts[0] != data:
        raise _refuse(path, "hole", f"has {starts[0] - data} bytes before its first tensor")
    for tensor, (start, following) in zip(placed, pairwise(starts), strict=True):
        end = start + tensor.nbytes
        if end > size:
            raise _refuse(
                path,
                "truncated",
                f"has {size} bytes, and {tensor.name} ends at {end}: the file is incomplete; fetch it again",
            )
        if end > following:
            raise _refuse(path, "overlap", f"has tensors that overlap, {tensor.name} and the next one")
        if end < following:
            what = "bytes after its last tensor" if following == size else f"a hole behind {tensor.name}"
            raise _refuse(path, "hole", f"has {what}, which safetensors may not")


def _refuse(path: Path, rule: str, reason: str) -> CheckpointDamaged:
    return CheckpointDamaged(path, rule, reason)
