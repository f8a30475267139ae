"""A model's files: one GGUF, or the parts of a split one in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.errors import GgufError
from runtime.gguf.header import GgufHeader
from runtime.gguf.packed import PackedSection, PackedTensor
from runtime.gguf.reader import open_gguf
from runtime.gguf.roles import DESCRIPTIONS, Role
from runtime.gguf.tensor_info import TensorInfo

PART_NAME: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
"""llama.cpp's name for a part; it counts from 1."""

REQUIRED: Final = ("context_length", "embedding_length", "block_count")
"""Hyperparameters without which llama.cpp loads no model."""


@dataclass(frozen=True)
class GgufModel:
    """The headers of all parts; the first holds the metadata."""

    headers: tuple[GgufHeader, ...]

    @property
    def header(self) -> GgufHeader:
        return self.headers[0]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(header.path for header in self.headers)

    @property
    def size_bytes(self) -> int:
        return sum(header.file_size for header in self.headers)

    @property
    def tensors(self) -> Iterator[TensorInfo]:
        """Of all parts, in ggml's types; an offset counts from its own part's data section."""
        return (tensor for header in self.headers for tensor in header.tensors)

    @property
    def all_tensors(self) -> Iterator[TensorInfo | PackedTensor]:
        """With the packed ones."""
        return (tensor for header in self.headers for tensor in header.all_tensors)

    @property
    def packed(self) -> PackedSection | None:
        """Matrices in formats of localq's own; only a model in one file has any."""
        return self.header.packed


def open_model(paths: Path | str | Sequence[Path | str], *, role: Role = "model") -> GgufModel:
    """Opens and validates a model, with all its parts if it is split.

    ``paths`` is one file, any part of a split model (the others are found by name beside it), or all parts in
    any order. Raises :class:`GgufError` if a part is missing, twice there or of another model, or if the file
    is not what ``role`` asks for.
    """
    given = [Path(paths)] if isinstance(paths, Path | str) else [Path(path) for path in paths]
    if not given:
        raise ValueError("open_model needs at least one path")
    headers = [open_gguf(path) for path in given]
    count = _part_count(headers[0])
    if len(headers) == 1 and count > 1:
        headers = _open_beside(headers[0], count)
    model = GgufModel(_ordered(headers, count))
    _check_role(model.header, role)
    return model


def _part_count(header: GgufHeader) -> int:
    """1 for a file that is not split."""
    return max(header.get("split.count", int, 1), 1)


def _open_beside(header: GgufHeader, count: int) -> list[GgufHeader]:
    name = PART_NAME.fullmatch(header.path.name)
    if name is None or int(name["count"]) != count:
        raise GgufError(
            header.path,
            "split-name",
            f"is a part of a model in {count} files, but its name does not end in -0000N-of-{count:05}.gguf",
        )
    if int(name["number"]) != _part_number(header) + 1:
        raise GgufError(
            header.path,
            "split-number",
            f"is part {_part_number(header) + 1}, its name says {int(name['number'])}",
        )
    headers = []
    for number in range(1, count + 1):
        path = header.path.with_name(f"{name['stem']}-{number:05}-of-{count:05}.gguf")
        try:
            headers.append(header if path == header.path else open_gguf(path))
        except GgufError as error:
            if error.rule != "not-found":
                raise
            raise GgufError(
                path, "split-missing", f"part {number} of {count} is missing; put all parts into one folder"
            ) from None
    return headers


def _part_number(header: GgufHeader) -> int:
    """From 0; a file without the key counts as the first."""
    return header.get("split.no", int, 0)


def _ordered(headers: list[GgufHeader], count: int) -> tuple[GgufHeader, ...]:
    """The parts by number, after checking that they are the whole of one model."""
    first = headers[0]
    if len(headers) != count:
        raise GgufError(
            first.path,
            "split-missing",
            f"is one of {count} parts, {len(headers)} were given; give all of them",
        )
    parts: dict[int, GgufHeader] = {}
    for header in headers:
        number = _part_number(header)
        if _part_count(header) != count or number >= count:
            raise GgufError(
                header.path,
                "split-mixed",
                f"is part {number + 1} of {_part_count(header)}, among the parts of a model in {count} files",
            )
        if number in parts:
            raise GgufError(header.path, "split-duplicate", f"is part {number + 1} a second time")
        parts[number] = header
    ordered = tuple(parts[number] for number in range(count))
    if count > 1:
        _check_same_model(ordered)
    return ordered


def _check_same_model(parts: tuple[GgufHeader, ...]) -> None:
    first = parts[0]
    names: set[str] = set()
    for part in parts:
        for key in ("general.architecture", "general.name", "split.tensors.count"):
            if part.metadata.get(key, first.metadata.get(key)) != first.metadata.get(key):
                raise GgufError(part.path, "split-mixed", f"has another {key} than {first.path.name}")
        for tensor in part.tensors:
            if tensor.name in names:
                raise GgufError(
                    part.path, "split-mixed", f"has the tensor {tensor.name}, as an earlier part has"
                )
            names.add(tensor.name)
    expected = first.get("split.tensors.count", int, 0)
    if len(names) != expected:
        raise GgufError(
            first.path,
            "split-mixed",
            f"its parts hold {len(names)} tensors together; the model has {expected}",
        )


def _check_role(header: GgufHeader, role: Role) -> None:
    if header.role != role:
        raise GgufError(
            header.path, "wrong-role", f"is {DESCRIPTIONS[header.role]}; this needs {DESCRIPTIONS[role]}"
        )
    if role != "model":
        return
    if not header.architecture:
        raise GgufError(header.path, "missing-key", "names no architecture (general.architecture)")
    for key in REQUIRED:
        if header.hyper(key) is None:
            raise GgufError(header.path, "missing-key", f"lacks {header.architecture}.{key}")
