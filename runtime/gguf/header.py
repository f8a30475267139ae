"""A validated GGUF header: metadata and the tensor table, without the tensors' data."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from runtime.errors import GgufError
from runtime.gguf.activations import ActivationScales
from runtime.gguf.limits import METADATA_BYTES
from runtime.gguf.packed import PackedSection, PackedTensor
from runtime.gguf.roles import Role, find_role
from runtime.gguf.source import open_source
from runtime.gguf.tensor_info import TensorInfo
from runtime.gguf.values import ArrayRef, Value, ValueType, decode_numbers

T = TypeVar("T", int, float, bool, str, ArrayRef)

_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]"
)


@dataclass(frozen=True)
class GgufHeader:
    """What :func:`runtime.gguf.open_gguf` found in one file, all of it validated.

    Strings may hold control characters: show them through ``app.terminal`` only.
    """

    path: Path
    file_size: int
    version: int
    alignment: int
    data_offset: int
    """Where the data section starts in the file."""
    metadata: Mapping[str, Value] = field(repr=False)
    tensors: tuple[TensorInfo, ...] = field(repr=False)
    identity: tuple[int, int, int, int] = field(repr=False)
    """Device, inode, size and modification time (ns) of the file that was read."""
    packed: PackedSection | None = field(default=None, repr=False)
    """Matrices in formats of localq's own, behind the tensors."""
    activations: ActivationScales = field(default_factory=dict, repr=False)
    """Static scales of the inputs of some tensors."""

    @property
    def all_tensors(self) -> tuple[TensorInfo | PackedTensor, ...]:
        """With the packed ones."""
        return (*self.tensors, *self.packed.tensors) if self.packed else self.tensors

    @property
    def role(self) -> Role:
        """What the file is for."""
        return find_role(self.metadata, self.tensors)

    @cached_property
    def unsafe_keys(self) -> frozenset[str]:
        """Keys whose text holds control characters, bidi overrides or invisible tags."""
        return frozenset(
            key for key, value in self.metadata.items() if isinstance(value, str) and _UNSAFE.search(value)
        )

    @property
    def architecture(self) -> str:
        """``general.architecture``, or ``""`` where a file names none."""
        return self.get("general.architecture", str, "")

    def get(self, key: str, kind: type[T], default: T) -> T:
        """The value of ``key``, or ``default`` if the file lacks it.

        Raises :class:`GgufError` (``wrong-type``) if the value is not a ``kind``; an int passes as a float.
        """
        value = self.metadata.get(key)
        if value is None:
            return default
        if kind is float and type(value) is int:
            return kind(value)
        if type(value) is not kind:
            raise GgufError(
                self.path,
                "wrong-type",
                f"{key} is of type {type(value).__name__}, expected {kind.__name__}",
            )
        return value

    def hyper(self, key: str, default: Value | None = None) -> Value | None:
        """The value of ``<architecture>.<key>``, or ``default``."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    def hyper_int(self, key: str, default: int | None = None) -> int | None:
        """The integer ``<architecture>.<key>``; of a value for each layer, the largest."""
        value = self.hyper(key)
        if isinstance(value, ArrayRef):
            return max((int(element) for element in self.read_array(value)), default=default)
        return int(value) if isinstance(value, int | float) else default

    def per_layer(self, key: str, default: int | None = None) -> tuple[int, ...] | None:
        """The integer ``<architecture>.<key>`` for each of ``block_count`` layers, one value being for all.

        Raises :class:`GgufError` (``layer-count``) if an array has fewer elements than the model has layers.
        """
        layers = self.hyper_int("block_count", 0) or 0
        value = self.hyper(key)
        if isinstance(value, ArrayRef):
            if value.count < layers:
                raise GgufError(
                    self.path,
                    "layer-count",
                    f"{self.architecture}.{key} has {value.count} elements for {layers} layers",
                )
            return tuple(int(element) for element in self.read_array(value)[:layers])
        if isinstance(value, int | float):
            return (int(value),) * layers
        return None if default is None else (default,) * layers

    def read_array(self, ref: ArrayRef) -> list[int] | list[float] | list[bool] | list[bytes]:
        """The elements of an array of this file; strings as bytes, since a token need not be UTF-8.

        Raises :class:`GgufError` (``changed``) if the file is no longer the one that was validated.
        """
        if ref.data is not None:
            return decode_numbers(ref.type, ref.data)
        with open_source(self.path) as source:
            if file_identity(source.fd) != self.identity:
                raise GgufError(
                    self.path, "changed", "the file was changed after it was opened; open it again"
                )
            source.seek(ref.offset)
            if ref.type is ValueType.STRING:
                strings: list[bytes] = []
                for part in source.strings(ref.count, METADATA_BYTES, "an array's string"):
                    strings += part
                return strings
            return decode_numbers(ref.type, source.take(ref.nbytes, "an array"))


def file_identity(fd: int) -> tuple[int, int, int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
