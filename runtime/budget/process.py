"""Bytes that the worker takes beside weights, cache and buffers: interpreter, libraries, vocabulary.

The numbers are measured (docs/memory.md says how): they are properties of Python, of llama.cpp's tokenizers
and of the C library's allocator.
"""

from __future__ import annotations

from runtime.budget.kv import CacheSize
from runtime.budget.shape import Shape
from runtime.engine.config import EngineConfig
from runtime.gguf import ArrayRef, GgufHeader

BASE = 64 << 20
"""The interpreter with its libraries, up to a loaded model of no vocabulary; what huge pages round up."""
TOKEN = 158
MERGE = 150
"""Host bytes for each token and each merge of a vocabulary: texts, hash tables, trees."""
UNIGRAM_TOKEN = 520
"""A token of a unigram (T5) vocabulary: a trie of arrays beside."""
CANDIDATE = 12
"""A token in a sampler's list of candidates."""
PACKED = 4 << 20
"""Beside matrices in formats of localq's own, after loading them: a directory, a second part's records."""
TENSOR = 4096
"""Graph and scheduler records for each tensor of the model."""


def process_size(header: GgufHeader, shape: Shape, config: EngineConfig, cache: CacheSize) -> int:
    """What the worker takes for itself when it serves ``config``."""
    kind = header.metadata.get("tokenizer.ggml.model")
    token = UNIGRAM_TOKEN if kind == "t5" else TOKEN
    vocabulary = token * shape.vocabulary + MERGE * _count(header, "tokenizer.ggml.merges")
    candidates = CANDIDATE * shape.vocabulary * config.slots
    records = TENSOR * len(header.all_tensors)
    packed = PACKED if header.packed else 0
    return BASE + vocabulary + candidates + records + packed + cache.record_bytes


def _count(header: GgufHeader, key: str) -> int:
    value = header.metadata.get(key)
    return value.count if isinstance(value, ArrayRef) else 0
