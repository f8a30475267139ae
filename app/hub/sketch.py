"""A model in outline, from its hyperparameters and the size of its weights alone: enough to plan its memory.

A whole GGUF header has megabytes of vocabulary, so a search reads only the first keys of each
(:mod:`runtime.gguf.skim`). The outline stands for a header whose weights are one matrix of that size; what
llama.cpp repacks is not known then, so a plan may be low by that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from runtime.gguf import ArrayRef, GgufHeader, TensorInfo
from runtime.gguf.ggml_types import GGML_TYPES
from runtime.gguf.metadata import RawMetadata
from runtime.gguf.values import Value, ValueType

TOKENS: Final = "tokenizer.ggml.tokens"
MERGES: Final = "tokenizer.ggml.merges"

_FROM_CONFIG: Final = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "vocab_size": "vocab_size",
    "num_experts": "expert_count",
    "num_local_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}
"""Names in ``config.json`` of transformers, and the keys of a GGUF that mean the same."""


def sketch_gguf(raw: RawMetadata, weight_bytes: int) -> GgufHeader:
    """The outline of a GGUF whose first keys are known."""
    arrays: dict[str, Value] = {
        key: ArrayRef(ValueType.STRING, raw.counts[key], 0, 0)
        for key in (TOKENS, MERGES)
        if key in raw.counts and key not in raw.values
    }
    return _header({**raw.values, **arrays}, weight_bytes)


def sketch_config(config: Mapping[str, Any], weight_bytes: int) -> GgufHeader:
    """The outline of what a ``config.json`` describes, as the plainest architecture with these widths."""
    text = config.get("text_config")
    told = {**config, **text} if isinstance(text, dict) else dict(config)
    metadata: dict[str, Value] = {"general.architecture": "llama"}
    for name, key in _FROM_CONFIG.items():
        value = told.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31:
            metadata.setdefault(f"llama.{key}", value)
    head = told.get("head_dim")
    if isinstance(head, int) and 0 < head < 1 << 16:
        metadata |= {"llama.attention.key_length": head, "llama.attention.value_length": head}
    return _header(metadata, weight_bytes)


def _header(metadata: dict[str, Value], weight_bytes: int) -> GgufHeader:
    return GgufHeader(
        path=Path("sketch"),
        file_size=weight_bytes,
        version=3,
        alignment=32,
        data_offset=0,
        metadata=MappingProxyType(metadata),
        tensors=(_tensor("blk.0.ffn_gate", 0), _tensor("blk.0.ffn_up", 0), _tensor("output", weight_bytes)),
        identity=(0, 0, 0, 0),
    )


def _tensor(name: str, nbytes: int) -> TensorInfo:
    return TensorInfo(f"{name}.weight", GGML_TYPES[0], (1,), 0, nbytes)
