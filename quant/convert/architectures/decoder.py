"""What most decoders have in common; an architecture adds what it has of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gguf import MODEL_TENSOR, Keys

from quant.convert.architectures.architecture import Change, Computed, Hyperparameters, Shapes
from quant.convert.config import INT32_MAX, Config
from quant.convert.pooling import pooling_type
from quant.convert.rope import (
    Rope,
    llama3_factors,
    original_context,
    read_rope,
    scaling_number,
)
from quant.errors import CannotConvert

FREQUENCIES: Final = re.compile(r".*\.rotary_emb\.inv_freq")
"""Buffers that old checkpoints carry; they follow from the configuration."""
OTHER_SENSES: Final = re.compile(
    r"(model\.)?(vision_tower|vision_model|visual|multi_modal_projector|audio_tower|embed_vision)\..*"
)
"""Parts of a multimodal model that are not its language model."""


def heads(config: Config) -> int:
    return config.integer("num_attention_heads", most=1 << 16)


def kv_heads(config: Config) -> int:
    """Of keys and values; as many as queries where the file says nothing."""
    return config.optional_integer("num_key_value_heads", most=1 << 16) or heads(config)


def head_width(config: Config) -> int:
    """Elements of a head."""
    given = config.optional_integer("head_dim")
    if given is None:
        hidden, count = config.integer("hidden_size"), heads(config)
        if hidden % count:
            raise config.refuse("num_attention_heads", f"is {count}, which does not divide {hidden}")
        given = hidden // count
    if given % 2:
        raise config.refuse("head_dim", f"is {given}; rotary positions need an even number")
    return given


def rotated(config: Config) -> int:
    """Elements of a head that carry the position."""
    share = read_rope(config).scaling.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    share = 1.0 if share is None else config.positive("partial_rotary_factor", share)
    return int(head_width(config) * share)


def decoder_keys(config: Config, keys: Hyperparameters) -> None:
    """The keys that every decoder has."""
    if heads(config) % kv_heads(config):
        raise config.refuse("num_key_value_heads", f"is {kv_heads(config)}, for {heads(config)} heads")
    keys.u32(Keys.LLM.BLOCK_COUNT, config.integer("num_hidden_layers", most=512))
    keys.u32(Keys.LLM.CONTEXT_LENGTH, config.integer("max_position_embeddings", most=INT32_MAX))
    keys.u32(Keys.LLM.EMBEDDING_LENGTH, config.integer("hidden_size"))
    keys.u32(Keys.LLM.FEED_FORWARD_LENGTH, config.integer("intermediate_size"))
    keys.u32(Keys.LLM.VOCAB_SIZE, config.integer("vocab_size"))
    keys.u32(Keys.Attention.HEAD_COUNT, heads(config))
    keys.u32(Keys.Attention.HEAD_COUNT_KV, kv_heads(config))
    keys.u32(Keys.Attention.KEY_LENGTH, head_width(config))
    keys.u32(Keys.Attention.VALUE_LENGTH, head_width(config))
    keys.f32(Keys.Attention.LAYERNORM_RMS_EPS, config.number("rms_norm_eps"))
    keys.u32(Keys.Rope.DIMENSION_COUNT, rotated(config))
    keys.u32(Keys.LLM.POOLING_TYPE, pooling_type(config.folder))  # of a decoder that makes vectors
    rope_keys(config, read_rope(config), keys)


def rope_keys(config: Config, rope: Rope, keys: Hyperparameters) -> None:
    """Base and scaling of the positions; longrope's factors and llama3's are tensors."""
    keys.f32(Keys.Rope.FREQ_BASE, rope.theta)
    if rope.kind in ("linear", "yarn"):
        keys.text(Keys.Rope.SCALING_TYPE, rope.kind)
        keys.f32(Keys.Rope.SCALING_FACTOR, scaling_number(config, rope, "factor"))
    if rope.kind == "yarn":
        _yarn_keys(config, rope, keys)


def _yarn_keys(config: Config, rope: Rope, keys: Hyperparameters) -> None:
    keys.u32(Keys.Rope.SCALING_ORIG_CTX_LEN, original_context(config, rope))
    for template, name in (
        (Keys.Rope.SCALING_YARN_BETA_FAST, "beta_fast"),
        (Keys.Rope.SCALING_YARN_BETA_SLOW, "beta_slow"),
        (Keys.Rope.SCALING_YARN_ATTN_FACTOR, "attention_factor"),
    ):
        if rope.scaling.get(name) is not None:
            keys.f32(template, scaling_number(config, rope, name))


def expert_keys(config: Config, keys: Hyperparameters) -> None:
    """How many experts there are, and how many a token sees."""
    count = config.integer("num_local_experts", "num_experts", most=1024)
    keys.u32(Keys.LLM.EXPERT_COUNT, count)
    keys.u32(Keys.LLM.EXPERT_USED_COUNT, config.integer("num_experts_per_tok", most=count))


def decoder_shapes(config: Config) -> dict[MODEL_TENSOR, tuple[int, ...]]:
    """The weights of a decoder with separate matrices and a gated feed-forward layer."""
    hidden, inner = config.integer("hidden_size"), config.integer("intermediate_size")
    queries, keys = heads(config) * head_width(config), kv_heads(config) * head_width(config)
    return {
        **outer_shapes(config),
        MODEL_TENSOR.ATTN_NORM: (hidden,),
        MODEL_TENSOR.ATTN_Q: (queries, hidden),
        MODEL_TENSOR.ATTN_K: (keys, hidden),
        MODEL_TENSOR.ATTN_V: (keys, hidden),
        MODEL_TENSOR.ATTN_OUT: (hidden, queries),
        MODEL_TENSOR.FFN_NORM: (hidden,),
        MODEL_TENSOR.FFN_GATE: (inner, hidden),
        MODEL_TENSOR.FFN_UP: (inner, hidden),
        MODEL_TENSOR.FFN_DOWN: (hidden, inner),
    }


def outer_shapes(config: Config) -> dict[MODEL_TENSOR, tuple[int, ...]]:
    """What lies before the first block and behind the last."""
    hidden, vocabulary = config.integer("hidden_size"), config.integer("vocab_size")
    shapes: dict[MODEL_TENSOR, tuple[int, ...]] = {
        MODEL_TENSOR.TOKEN_EMBD: (vocabulary, hidden),
        MODEL_TENSOR.OUTPUT_NORM: (hidden,),
    }
    if not is_tied(config):
        shapes[MODEL_TENSOR.OUTPUT] = (vocabulary, hidden)
    return shapes


def with_experts(shapes: Shapes, count: int, inner: int, hidden: int) -> Shapes:
    """``shapes`` with the feed-forward layer in ``count`` experts of the width ``inner``."""
    dense = (MODEL_TENSOR.FFN_GATE, MODEL_TENSOR.FFN_UP, MODEL_TENSOR.FFN_DOWN)
    return {
        **{kind: shape for kind, shape in shapes.items() if kind not in dense},
        MODEL_TENSOR.FFN_GATE_INP: (count, hidden),
        MODEL_TENSOR.FFN_GATE_EXP: (count, inner, hidden),
        MODEL_TENSOR.FFN_UP_EXP: (count, inner, hidden),
        MODEL_TENSOR.FFN_DOWN_EXP: (count, hidden, inner),
    }


def is_tied(config: Config) -> bool:
    """Whether the output matrix is that of the embedding."""
    return config.flag("tie_word_embeddings")


def interleaved_heads(config: Config) -> Mapping[MODEL_TENSOR, Change]:
    """For architectures whose rotation of neighbours llama.cpp kept."""
    return {
        MODEL_TENSOR.ATTN_Q: Change(heads=heads(config)),
        MODEL_TENSOR.ATTN_K: Change(heads=kv_heads(config)),
    }


def rope_factors(config: Config) -> Computed:
    """The factors of llama3's scaling, where the model has it."""
    rope = read_rope(config)
    if rope.kind != "llama3":
        return {}
    return {MODEL_TENSOR.ROPE_FREQS: llama3_factors(config, rope, rotated(config))}


def require_rope(config: Config, *kinds: str) -> None:
    """Raises :class:`CannotConvert` for a scaling of the positions that this architecture has not in
    llama.cpp."""
    rope = read_rope(config)
    if rope.kind not in ("default", "dynamic", *kinds):
        raise CannotConvert(
            config.folder,
            f"its rotary positions are scaled by {rope.kind!r}, which llama.cpp does not do for this "
            "architecture",
        )


def require_activation(config: Config, *names: str) -> None:
    """Raises :class:`CannotConvert` unless the feed-forward layer has one of the activations ``names``."""
    key = "hidden_activation" if config.get("hidden_activation") else "hidden_act"
    if config.get(key) is not None:
        config.require(key, *names, why="llama.cpp computes another activation for this architecture")
