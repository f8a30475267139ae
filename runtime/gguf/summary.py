"""What a person wants to know of a model, and what the store keeps in its manifest."""

from __future__ import annotations

import hashlib
from collections import Counter

import msgspec

from runtime.gguf.ggml_types import FILE_TYPES
from runtime.gguf.header import GgufHeader
from runtime.gguf.model import GgufModel
from runtime.gguf.values import ArrayRef

_GUESSED = 1024  # a bit that llama.cpp sets in general.file_type


class ModelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a model's header. Texts come from the file: show them through ``app.terminal`` only."""

    architecture: str
    name: str
    parameters: int
    """Elements of all tensors."""
    file_type: str
    """The mixture's name, as ``Q4_K_M``; where the file names none, its commonest tensor type."""
    bits_per_weight: float
    """Bits of tensor data for each parameter; 0 for a file without tensors."""
    context_tokens: int | None
    """The length that the model was trained for."""
    vocabulary_size: int
    embedding_length: int | None
    block_count: int | None
    license: str | None
    chat_template_sha256: str | None
    tensor_types: dict[str, int]
    """How many tensors are stored in each type."""
    size_bytes: int
    """Of the files."""


def summarize(model: GgufModel | GgufHeader) -> ModelSummary:
    """The summary of a validated model, or of one file."""
    header = model.header if isinstance(model, GgufModel) else model
    data_bytes = 0
    weights: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for tensor in model.tensors:
        data_bytes += tensor.nbytes
        types[tensor.type.name] += 1
        weights[tensor.type.name] += tensor.elements
    for packed in header.packed.tensors if header.packed else ():
        data_bytes += packed.nbytes
        types[packed.format.upper()] += 1
        weights[packed.format.upper()] += packed.elements
    elements = weights.total()
    template = _text(header, "tokenizer.chat_template")
    return ModelSummary(
        architecture=header.architecture,
        name=_text(header, "general.name") or header.path.stem,
        parameters=elements,
        file_type=_file_type(header, weights),
        bits_per_weight=8 * data_bytes / elements if elements else 0.0,
        context_tokens=header.hyper_int("context_length"),
        vocabulary_size=_vocabulary_size(header),
        embedding_length=header.hyper_int("embedding_length"),
        block_count=header.hyper_int("block_count"),
        license=_text(header, "general.license") or None,
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else None,
        tensor_types=dict(types),
        size_bytes=model.size_bytes if isinstance(model, GgufModel) else model.file_size,
    )


def _text(header: GgufHeader, key: str) -> str:
    """The text at ``key``; empty where the file has none, or something else."""
    value = header.metadata.get(key)
    return value if isinstance(value, str) else ""


def _file_type(header: GgufHeader, weights: Counter[str]) -> str:
    number = header.get("general.file_type", int, -1)
    if number >= 0 and number & ~_GUESSED in FILE_TYPES and header.packed is None:
        return FILE_TYPES[number & ~_GUESSED]
    return weights.most_common(1)[0][0] if weights else "none"


def _vocabulary_size(header: GgufHeader) -> int:
    tokens = header.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, ArrayRef):
        return tokens.count
    return header.hyper_int("vocab_size", 0) or 0
