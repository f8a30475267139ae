"""Headers without files, and machines of given size."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.engine.config import EngineConfig
from runtime.gguf import ArrayRef, GgufHeader, TensorInfo
from runtime.gguf.ggml_types import GGML_TYPES_BY_NAME
from runtime.gguf.values import Value, ValueType
from runtime.hardware import CoreReport, Device, Machine, MemoryReport, MemoryTerm

MIB = 1 << 20
GIB = 1 << 30
AVX2 = frozenset({"avx2"})


def array(values: Sequence[int]) -> ArrayRef:
    data = struct.pack(f"<{len(values)}I", *values)
    return ArrayRef(ValueType.U32, len(values), 0, len(data), data)


def flags(values: Sequence[bool]) -> ArrayRef:
    return ArrayRef(ValueType.BOOL, len(values), 0, len(values), bytes(values))


def strings(count: int) -> ArrayRef:
    """An array of texts that nobody reads."""
    return ArrayRef(ValueType.STRING, count, 0, 9 * count)


def tensor(name: str, kind: str, *shape: int, offset: int = 0) -> TensorInfo:
    ggml = GGML_TYPES_BY_NAME[kind]
    rows = 1
    for dimension in shape[1:]:
        rows *= dimension
    return TensorInfo(name, ggml, shape, offset, ggml.row_bytes(shape[0]) * rows)


def header(
    architecture: str = "llama",
    hyper: Mapping[str, Value] | None = None,
    tensors: Sequence[TensorInfo] = (),
    **general: Value,
) -> GgufHeader:
    """A header whose tensors lie one after the other. The defaults are a small dense transformer."""
    keys: dict[str, Value] = {
        "block_count": 4,
        "context_length": 8192,
        "embedding_length": 1024,
        "feed_forward_length": 4096,
        "attention.head_count": 16,
        "attention.head_count_kv": 4,
        "vocab_size": 1000,
    }
    metadata: dict[str, Value] = {"general.architecture": architecture}
    for key, value in (keys | dict(hyper or {})).items():
        metadata[f"{architecture}.{key}"] = value
    for key, value in general.items():
        metadata[key.replace("__", ".")] = value
    placed, offset = [], 0
    for each in tensors:
        placed.append(TensorInfo(each.name, each.type, each.shape, offset, each.nbytes))
        offset += -(-each.nbytes // 32) * 32
    return GgufHeader(
        path=Path("model.gguf"),
        file_size=4096 + offset,
        version=3,
        alignment=32,
        data_offset=4096,
        metadata=metadata,
        tensors=tuple(placed),
        identity=(0, 0, 0, 0),
    )


def dense_tensors(layers: int = 4, kind: str = "Q4_0") -> list[TensorInfo]:
    """The matrices of the default header's model."""
    tensors = [tensor("token_embd.weight", kind, 1024, 1000), tensor("output_norm.weight", "F32", 1024)]
    for layer in range(layers):
        tensors += [
            tensor(f"blk.{layer}.attn_q.weight", kind, 1024, 1024),
            tensor(f"blk.{layer}.ffn_gate.weight", kind, 1024, 4096),
            tensor(f"blk.{layer}.ffn_up.weight", kind, 1024, 4096),
            tensor(f"blk.{layer}.ffn_down.weight", kind, 4096, 1024),
            tensor(f"blk.{layer}.attn_norm.weight", "F32", 1024),
        ]
    return [*tensors, tensor("output.weight", kind, 1024, 1000)]


def machine(
    available: int = 64 * GIB,
    *,
    features: frozenset[str] = AVX2,
    devices: Sequence[Device] = (),
    margin: int = 0,
) -> Machine:
    term = MemoryTerm("MemAvailable", available + margin, "of 128.00 GiB in this machine", margin)
    cores = CoreReport(physical=2, logical=4, fast=2, quota=None, model="test")
    return Machine(MemoryReport((term,), 128 * GIB), cores, features, tuple(devices))


def config(**changes: object) -> EngineConfig:
    return EngineConfig(**({"model_paths": ("model.gguf",)} | changes))  # type: ignore[arg-type]
