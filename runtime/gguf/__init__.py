"""GGUF files: a lazy reader and validator of headers. Nothing untrusted reaches native code unchecked."""

from __future__ import annotations

from runtime.gguf.ggml_types import GgmlType
from runtime.gguf.header import GgufHeader, TensorInfo
from runtime.gguf.reader import open_gguf
from runtime.gguf.summary import ModelSummary, summarize
from runtime.gguf.values import ArrayRef

__all__ = [
    "ArrayRef",
    "GgmlType",
    "GgufHeader",
    "ModelSummary",
    "TensorInfo",
    "open_gguf",
    "summarize",
]
