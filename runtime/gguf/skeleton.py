"""A second part for llama.cpp: a GGUF that declares the packed matrices, and holds nothing.

Loaded beside the file itself it makes the model whole. Its tensors have some type of ggml's and the size of
that, as a hole in a sparse file: no kernel reads them, for the hook multiplies from the packed section.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from runtime.gguf.ggml_types import GGML_TYPES_BY_NAME, GgmlType
from runtime.gguf.header import GgufHeader
from runtime.gguf.packed import PackedSection, PackedTensor
from runtime.gguf.tensors import pad
from runtime.gguf.values import ValueType

ALIGNMENT: Final = 32


def split_keys(header: GgufHeader, section: PackedSection) -> dict[str, int]:
    """What llama.cpp has to be told of the model's file, which says nothing of parts itself."""
    return {
        "split.no": 0,
        "split.count": 2,
        "split.tensors.count": len(header.tensors) + len(section.tensors),
    }


def nominal_type(tensor: PackedTensor) -> GgmlType:
    """The smallest of ggml's types that can have the tensor's rows: llama.cpp reads the hole once."""
    return GGML_TYPES_BY_NAME["Q1_0" if tensor.shape[0] % 128 == 0 else "Q2_0"]


def write_skeleton(header: GgufHeader, section: PackedSection, path: Path) -> None:
    """Write the second part of ``header``'s model to ``path``, which is new: some KiB, whatever its size."""
    count = len(header.tensors) + len(section.tensors)
    keys = [
        _text("general.architecture") + struct.pack("<I", ValueType.STRING) + _text(header.architecture),
        _text("split.no") + struct.pack("<IH", ValueType.U16, 1),
        _text("split.count") + struct.pack("<IH", ValueType.U16, 2),
        _text("split.tensors.count") + struct.pack("<Ii", ValueType.I32, count),
    ]
    infos, offset = [], 0
    for tensor in section.tensors:
        kind = nominal_type(tensor)
        infos.append(
            _text(tensor.name)
            + struct.pack(f"<I{len(tensor.shape)}QIQ", len(tensor.shape), *tensor.shape, kind.id, offset)
        )
        offset += pad(kind.row_bytes(tensor.elements), ALIGNMENT)
    data = struct.pack("<4sIQQ", b"GGUF", 3, len(infos), len(keys)) + b"".join(keys + infos)
    with path.open("xb") as file:
        file.write(data)
        file.truncate(pad(len(data), ALIGNMENT) + offset)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
