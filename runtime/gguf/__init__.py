"""GGUF files: a lazy reader and validator of headers. Nothing untrusted reaches native code unchecked."""

from __future__ import annotations

from runtime.gguf.ggml_types import GgmlType
from runtime.gguf.header import GgufHeader
from runtime.gguf.model import GgufModel, open_model
from runtime.gguf.reader import open_gguf
from runtime.gguf.summary import ModelSummary, summarize
from runtime.gguf.tensor_info import TensorInfo
from runtime.gguf.values import ArrayRef

__all__ = [
    "ArrayRef",
    "GgmlType",
    "GgufHeader",
    "GgufModel",
    "ModelSummary",
    "TensorInfo",
    "open_gguf",
    "open_model",
    "summarize",
]
