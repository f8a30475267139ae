"""A model to quantize: its tensors as float32 rows, read in bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from quant.errors import SourceDamaged
from quant.files.packed_source import PackedRows
from quant.formats.lt import LT_FORMATS
from quant.formats.read import read
from runtime.errors import GgufError
from runtime.gguf import GgmlType, GgufHeader, GgufModel, open_model
from runtime.gguf.ggml_types import GGML_TYPES_BY_NAME
from runtime.gguf.header import file_identity
from runtime.gguf.packed import PackedTensor
from runtime.gguf.source import pread

PLAIN: Final = frozenset({"F32", "F16", "BF16"})
"""Types that hold a value for each weight: an original, not the result of an earlier quantization."""
NUMBERS: Final = frozenset({"I8", "I16", "I32", "I64", "F64"})
"""Types that no weight has; such tensors are tables for the program, and are copied."""

PACKED_AS: Final = GGML_TYPES_BY_NAME["F16"]

HASH_BYTES: Final = 4 << 20
_EXPONENTS: Final = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""All ones in these bits: NaN or infinity (IEEE 754)."""


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """A tensor of the source, and where its bytes lie."""

    name: str
    type: GgmlType
    shape: tuple[int, ...]
    """In ggml's order: the row's length first."""
    part: int
    """Index of the file that holds it."""
    position: int
    """In that file, of its first byte."""
    nbytes: int
    packed: PackedTensor | None = None
    """A matrix in an LT format is read, and copied, as one in F16."""

    @property
    def columns(self) -> int:
        """Length of a row."""
        return self.shape[0]

    @property
    def rows(self) -> int:
        """Rows of all experts together."""
        return self.elements // self.columns

    @property
    def experts(self) -> int:
        """Matrices stacked in the tensor; 1 for an ordinary one."""
        return self.elements // (self.shape[0] * self.shape[1]) if len(self.shape) > 2 else 1

    @property
    def elements(self) -> int:
        count = 1
        for dimension in self.shape:
            count *= dimension
        return count

    @property
    def row_bytes(self) -> int:
        return self.type.row_bytes(self.columns)


class Source:
    """An open source model. Rows may be read by any number of threads at once.

    Use it as a context manager. Raises :class:`runtime.errors.GgufError` (``changed``) if a file is no longer
    the one whose header was validated.
    """

    def __init__(self, model: GgufModel) -> None:
        self.model = model
        self._stack = ExitStack()
        self._fds: list[int] = []
        try:
            for header in model.headers:
                fd = os.open(header.path, os.O_RDONLY | os.O_CLOEXEC)
                self._stack.callback(os.close, fd)
                self._fds.append(fd)
            self.require_unchanged()
        except OSError as error:
            self._stack.close()
            reason = f"cannot be opened: {error.strerror}"
            raise GgufError(model.header.path, "unreadable", reason) from error
        except GgufError:
            self._stack.close()
            raise

    @property
    def header(self) -> GgufHeader:
        """With the model's metadata."""
        return self.model.header

    @cached_property
    def tensors(self) -> tuple[SourceTensor, ...]:
        """All tensors of all parts, in their order."""
        found = [
            SourceTensor(
                name=tensor.name,
                type=tensor.type,
                shape=tensor.shape,
                part=part,
                position=header.data_offset + tensor.offset,
                nbytes=tensor.nbytes,
            )
            for part, header in enumerate(self.model.headers)
            for tensor in header.tensors
        ]
        if (section := self.model.packed) is not None:
            for packed in section.tensors:
                position, nbytes = section.offset + packed.offset, PACKED_AS.row_bytes(packed.elements)
                found.append(
                    SourceTensor(packed.name, PACKED_AS, packed.shape, 0, position, nbytes, packed=packed)
                )
        return tuple(found)

    @cached_property
    def _packed(self) -> PackedRows:
        assert self.model.packed is not None
        return PackedRows.of(self.header, self.model.packed)

    @cached_property
    def quantized_types(self) -> tuple[str, ...]:
        """Types of matrices that an earlier quantization left, by weight; empty for an original."""
        elements: dict[str, int] = {}
        for tensor in self.tensors:
            name = tensor.packed.format.upper() if tensor.packed else tensor.type.name
            if name not in PLAIN | NUMBERS:
                elements[name] = elements.get(name, 0) + tensor.elements
        return tuple(sorted(elements, key=lambda name: (-elements[name], name)))

    def raw(self, tensor: SourceTensor, start: int, stop: int) -> bytes:
        """The stored bytes of rows ``start`` to ``stop``; those of a packed matrix as F16.

        Raises :class:`SourceDamaged` if the file ends before them.
        """
        if tensor.packed is not None:
            with np.errstate(over="ignore"):
                halves = self.rows(tensor, start, stop).astype("<f2")
            self._require_finite(tensor, start, halves)
            return halves.tobytes()
        nbytes = (stop - start) * tensor.row_bytes
        return self._read(tensor, start * tensor.row_bytes, nbytes, f"rows {start} to {stop - 1}")

    def strips(self, tensor: SourceTensor) -> NDArray[np.uint8]:
        """A packed matrix as it is stored, [strips, strip bytes], those of all experts."""
        assert tensor.packed is not None
        raw = self._read(tensor, 0, tensor.packed.nbytes, "its strips")
        size = LT_FORMATS[tensor.packed.format].strip_bytes(tensor.columns)
        return np.frombuffer(raw, np.uint8).reshape(-1, size)

    def stored(self, tensor: SourceTensor) -> bytes:
        """A tensor's own bytes, a packed matrix' strips among them."""
        return self.strips(tensor).tobytes() if tensor.packed else self.raw(tensor, 0, tensor.rows)

    def values(self, tensor: SourceTensor, stored: bytes) -> NDArray[np.float32]:
        """float32 [rows, columns]: what ``stored`` would stand for in the place of the tensor's bytes."""
        if (packed := tensor.packed) is None:
            return read(tensor.type.id, np.frombuffer(stored, np.uint8), tensor.columns)
        return self._packed.rows(packed, 0, tensor.rows, lambda first, count: stored[first : first + count])

    def _read(self, tensor: SourceTensor, first: int, nbytes: int, what: str) -> bytes:
        path = self.model.headers[tensor.part].path
        try:
            data = pread(self._fds[tensor.part], nbytes, tensor.position + first)
        except OSError as error:
            raise SourceDamaged(
                f"{path}: the tensor {tensor.name} cannot be read: {error.strerror}; nothing was published",
                tensor=tensor.name,
            ) from error
        if len(data) != nbytes:
            raise SourceDamaged(
                f"{path}: the tensor {tensor.name} is cut off: {what} need {nbytes} "
                f"bytes, {len(data)} remain; the file became shorter, fetch it again. Nothing was published",
                tensor=tensor.name,
            )
        return data

    def rows(self, tensor: SourceTensor, start: int, stop: int) -> NDArray[np.float32]:
        """Rows ``start`` to ``stop`` as float32 [stop - start, columns].

        Raises :class:`SourceDamaged` at a NaN or an infinity.
        """
        if (packed := tensor.packed) is not None:

            def piece(first: int, nbytes: int) -> bytes:
                return self._read(tensor, first, nbytes, f"bytes from {first} on")

            values = self._packed.rows(packed, start, stop, piece)
        else:
            raw = np.frombuffer(self.raw(tensor, start, stop), np.uint8)
            values = read(tensor.type.id, raw, tensor.columns)
        self._require_finite(tensor, start, values)
        return values

    def check(self, tensor: SourceTensor, start: int, stop: int) -> None:
        """Raises :class:`SourceDamaged` if rows ``start`` to ``stop`` cannot be read, or hold no numbers."""
        exponent = _EXPONENTS.get(tensor.type.name)
        if exponent is None or tensor.packed is not None:
            if tensor.type.name not in NUMBERS:
                self.rows(tensor, start, stop)
            return
        dtype, ones = exponent
        bits = np.frombuffer(self.raw(tensor, start, stop), dtype)
        if ((bits & ones) == ones).any():
            self.rows(tensor, start, stop)

    def _require_finite(self, tensor: SourceTensor, start: int, values: NDArray[np.floating[Any]]) -> None:
        finite = np.isfinite(values)
        if finite.all():
            return
        row, column = (int(index) for index in np.argwhere(~finite)[0])
        bad = values[row, column]
        what = "NaN" if np.isnan(bad) else "an infinity"
        raise SourceDamaged(
            f"{self.model.headers[tensor.part].path}: the tensor {tensor.name} holds {what} in row "
            f"{start + row}, column {column}; the model is damaged, fetch it again. Nothing was published",
            tensor=tensor.name,
        )

    def sha256(self, on_bytes: Callable[[int], None] = lambda _count: None) -> tuple[str, ...]:
        """Hex digests of the files, in their order; ``on_bytes`` gets the length of every piece read."""
        digests = []
        for header, fd in zip(self.model.headers, self._fds, strict=True):
            state = hashlib.sha256()
            position = 0
            while piece := pread(fd, HASH_BYTES, position):
                state.update(piece)
                position += len(piece)
                on_bytes(len(piece))
            if position != header.file_size:
                raise self._changed(header)
            digests.append(state.hexdigest())
        self.require_unchanged()
        return tuple(digests)

    def require_unchanged(self) -> None:
        """Raises :class:`GgufError` (``changed``) if a file was written to since its header was read."""
        for header, fd in zip(self.model.headers, self._fds, strict=True):
            if file_identity(fd) != header.identity:
                raise self._changed(header)

    @staticmethod
    def _changed(header: GgufHeader) -> GgufError:
        return GgufError(
            header.path, "changed", "was changed while it was read; try again when it is complete"
        )

    def close(self) -> None:
        """Closes the files; reading afterwards is an error of the caller."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_source(paths: Path | str | Sequence[Path | str]) -> Source:
    """Opens the model at ``paths``: one GGUF, or the parts of a split one.

    Raises :class:`runtime.errors.GgufError` for whatever is not a valid model.
    """
    return Source(open_model(paths))
