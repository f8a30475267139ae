"""Opening a GGUF: read everything but the tensors' data, check it, and only then hand it out."""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import Final

from runtime.gguf import limits
from runtime.gguf.activations import read_activations
from runtime.gguf.header import GgufHeader, file_identity
from runtime.gguf.hyperparameters import check_hyperparameters
from runtime.gguf.magic import read_version
from runtime.gguf.metadata import PACKED_PREFIX, RawMetadata, read_metadata
from runtime.gguf.packed import read_packed
from runtime.gguf.roles import check_role, find_role
from runtime.gguf.schema import check_schema
from runtime.gguf.source import Source, open_source
from runtime.gguf.tensor_info import TensorInfo
from runtime.gguf.tensors import find_data_section, read_tensors
from runtime.gguf.values import ValueType
from runtime.gguf.vocabulary import check_vocabulary

DEFAULT_ALIGNMENT: Final = 32
ARCHITECTURE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def open_gguf(path: Path | str) -> GgufHeader:
    """Reads and validates the header of one GGUF file.

    Raises :class:`runtime.errors.GgufError` for everything that must not reach native code; its ``rule``
    names what is wrong. Takes bounded time and memory whatever the file holds, and reads no tensor's data.
    """
    with open_source(path) as source:
        identity = file_identity(source.fd)
        header = read_gguf(source, identity)
        if file_identity(source.fd) != identity:
            raise source.refuse("changed", "was changed while it was read; try again when it is complete")
        return header


def read_gguf(source: Source, identity: tuple[int, int, int, int] = (0, 0, 0, 0)) -> GgufHeader:
    """The validated header at the start of ``source``, which need not be a file on this machine.

    Then ``identity`` stays as it is, and the header's large arrays cannot be read later.
    """
    version = read_version(source)
    tensor_count = source.u64("the number of tensors")
    key_count = source.u64("the number of keys")
    raw = read_metadata(source, key_count)
    source.limit_to(source.remaining)
    alignment = _find_alignment(source, raw)
    tensors = read_tensors(source, tensor_count)
    packs = any(key.startswith(PACKED_PREFIX) for key in raw.values)
    data_offset, end = find_data_section(source, tensors, alignment, more=packs)
    packed = read_packed(source, raw, end, [tensor.name for tensor in tensors])
    activations = read_activations(source, raw, tensors)
    _check_meaning(source, raw, tensors)
    return GgufHeader(
        path=source.path,
        file_size=source.size,
        version=version,
        alignment=alignment,
        data_offset=data_offset,
        metadata=MappingProxyType(raw.values),
        tensors=tensors,
        identity=identity,
        packed=packed,
        activations=MappingProxyType(activations),
    )


def _check_meaning(source: Source, raw: RawMetadata, tensors: tuple[TensorInfo, ...]) -> None:
    """Holds the values against what llama.cpp makes of them."""
    architecture = raw.values.get("general.architecture", "")
    if not isinstance(architecture, str) or (architecture and not ARCHITECTURE.fullmatch(architecture)):
        raise source.refuse(
            "bad-architecture", f"general.architecture is {str(architecture)[:80]!r}, not a name"
        )
    check_schema(source, raw, architecture)
    check_vocabulary(source, raw)
    role = find_role(raw.values, tensors)
    if role in ("model", "vocab"):
        check_hyperparameters(source, raw, architecture)
    check_role(source, raw, role, tensors)


def _find_alignment(source: Source, raw: RawMetadata) -> int:
    alignment = raw.values.get("general.alignment", DEFAULT_ALIGNMENT)
    if raw.kinds.get("general.alignment", ValueType.U32) is not ValueType.U32 or not isinstance(
        alignment, int
    ):
        raise source.refuse("bad-alignment", "general.alignment is not of the type u32")
    if alignment.bit_count() != 1 or not limits.ALIGNMENT_MIN <= alignment <= limits.ALIGNMENT_MAX:
        raise source.refuse(
            "bad-alignment",
            f"general.alignment is {alignment}; "
            f"powers of two from {limits.ALIGNMENT_MIN} to {limits.ALIGNMENT_MAX} are accepted",
        )
    return alignment
