"""The metadata keys that llama.cpp reads of a model, a vocabulary, an adapter or an importance matrix.

A type is exact: llama.cpp refuses, and in places aborts at, a value of another one. A range is what its
arrays and loops were written for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runtime.gguf import limits
from runtime.gguf.rules import BOOL, HEADS, INT32_MAX, TEXT, WIDTH, Rule, array, counted, f32, layers, u32
from runtime.gguf.values import ValueType

GENERAL: Final[Mapping[str, Rule]] = {
    "general.architecture": TEXT,
    "general.type": TEXT,
    "general.name": TEXT,
    "general.file_type": u32(0, INT32_MAX),
    "general.quantization_version": u32(0, INT32_MAX),
    "split.no": Rule((ValueType.U16,), 0, limits.SPLIT_PARTS - 1),
    "split.count": Rule((ValueType.U16,), 0, limits.SPLIT_PARTS),
    "split.tensors.count": Rule((ValueType.I32,), 0, limits.TENSORS),
    "adapter.type": TEXT,
    "adapter.lora.alpha": f32(),
    "adapter.alora.invocation_tokens": counted(array(ValueType.U32, most=INT32_MAX), 0, 4096),
    "imatrix.chunk_count": u32(0, INT32_MAX),
    "imatrix.chunk_size": u32(0, INT32_MAX),
    "imatrix.datasets": array(ValueType.STRING),
    "tokenizer.ggml.model": TEXT,
    "tokenizer.ggml.pre": TEXT,
    "tokenizer.ggml.tokens": counted(array(ValueType.STRING), 1, limits.VOCABULARY),
    "tokenizer.ggml.token_type": array(ValueType.I32),
    "tokenizer.ggml.token_type_count": u32(0, 1 << 16),
    "tokenizer.ggml.scores": array(ValueType.F32, ValueType.I32),
    "tokenizer.ggml.merges": array(ValueType.STRING),
    "tokenizer.ggml.precompiled_charsmap": array(ValueType.U8, ValueType.I8),
    "tokenizer.ggml.suppress_tokens": array(ValueType.I32),
    "tokenizer.ggml.add_bos_token": BOOL,
    "tokenizer.ggml.add_eos_token": BOOL,
    "tokenizer.ggml.add_sep_token": BOOL,
    "tokenizer.ggml.add_space_prefix": BOOL,
    "tokenizer.ggml.remove_extra_whitespaces": BOOL,
    "tokenizer.ggml.normalizer.lowercase": BOOL,
    "tokenizer.chat_template": TEXT,
    "tokenizer.chat_templates": counted(array(ValueType.STRING), 0, limits.CHAT_TEMPLATES),
}
"""By the whole key. The special tokens' ids are in :data:`TOKEN_IDS`."""

TOKEN_IDS: Final = tuple(
    f"tokenizer.ggml.{name}_token_id"
    for name in (
        *("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask"),
        *("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep", "prefix", "suffix", "middle"),
    )
)

HYPERPARAMETERS: Final[Mapping[str, Rule]] = {
    "vocab_size": u32(1, WIDTH),
    "context_length": u32(1, INT32_MAX),
    "embedding_length": u32(1, WIDTH),
    "embedding_length_out": u32(0, WIDTH),
    "block_count": u32(1, limits.BLOCKS),
    "leading_dense_block_count": u32(0, limits.BLOCKS),
    "nextn_predict_layers": u32(0, limits.BLOCKS),
    "feed_forward_length": layers(0, WIDTH),
    "expert_feed_forward_length": layers(0, WIDTH),
    "expert_shared_feed_forward_length": u32(0, WIDTH),
    "expert_count": u32(0, limits.EXPERTS),
    "expert_used_count": layers(0, limits.EXPERTS),
    "expert_shared_count": u32(0, limits.EXPERTS),
    "expert_group_count": u32(0, limits.EXPERTS),
    "expert_group_used_count": u32(0, limits.EXPERTS),
    "expert_weights_scale": f32(),
    "expert_weights_norm": BOOL,
    "attention.head_count": layers(0, HEADS),
    "attention.head_count_kv": layers(0, HEADS),
    "attention.key_length": u32(0, WIDTH),
    "attention.value_length": u32(0, WIDTH),
    "attention.key_length_mla": u32(0, WIDTH),
    "attention.value_length_mla": u32(0, WIDTH),
    "attention.q_lora_rank": u32(0, WIDTH),
    "attention.kv_lora_rank": u32(0, WIDTH),
    "attention.layer_norm_epsilon": f32(0.0, 1.0),
    "attention.layer_norm_rms_epsilon": f32(0.0, 1.0),
    "attention.causal": BOOL,
    "attention.sliding_window": u32(0, INT32_MAX),
    "attention.sliding_window_pattern": Rule(
        (ValueType.U32, ValueType.I32, ValueType.BOOL),
        0,
        INT32_MAX,
        per_layer=True,
        count=(0, limits.BLOCKS),
    ),
    "attention.max_alibi_bias": f32(),
    "attention.clamp_kqv": f32(),
    "attention.scale": f32(),
    "pooling_type": u32(0, 16),
    "logit_scale": f32(),
    "rope.dimension_count": u32(0, WIDTH),
    "rope.dimension_sections": counted(array(ValueType.I32, ValueType.U32, least=0, most=WIDTH), 0, 4),
    "rope.freq_base": f32(0.0),
    "rope.scale_linear": f32(0.0),
    "rope.scaling.type": TEXT,
    "rope.scaling.factor": f32(0.0),
    "rope.scaling.attn_factor": f32(),
    "rope.scaling.original_context_length": u32(0, INT32_MAX),
    "rope.scaling.finetuned": BOOL,
    "ssm.conv_kernel": u32(1, HEADS),
    "ssm.inner_size": u32(1, WIDTH),
    "ssm.state_size": u32(1, WIDTH),
    "ssm.time_step_rank": u32(1, WIDTH),
    "ssm.group_count": u32(0, WIDTH),
    "wkv.head_size": u32(1, WIDTH),
    "shortconv.l_cache": u32(1, HEADS),
}
"""By the key behind ``<architecture>.``."""
