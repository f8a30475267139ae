"""Phi 3 and 4."""

from __future__ import annotations

from gguf import MODEL_ARCH, MODEL_TENSOR, Keys

from quant.convert.architectures.architecture import Architecture, Computed, Hyperparameters, Shapes
from quant.convert.architectures.decoder import (
    FREQUENCIES,
    decoder_keys,
    decoder_shapes,
    head_width,
    heads,
    kv_heads,
    require_activation,
    require_rope,
    rotated,
)
from quant.convert.config import INT32_MAX, Config
from quant.convert.rope import long_factors, longrope_attention_factor, original_context, read_rope

_SEPARATE = (MODEL_TENSOR.ATTN_Q, MODEL_TENSOR.ATTN_K, MODEL_TENSOR.ATTN_V, MODEL_TENSOR.FFN_GATE)


def _keys(config: Config, keys: Hyperparameters) -> None:
    require_activation(config, "silu")
    require_rope(config, "longrope")
    decoder_keys(config, keys)
    rope = read_rope(config)
    original = original_context(config, rope)
    keys.u32(Keys.Rope.SCALING_ORIG_CTX_LEN, original)
    # 0 is how llama.cpp tells Phi 4, which has no windows, from its siblings
    keys.u32(Keys.Attention.SLIDING_WINDOW, config.optional_integer("sliding_window", most=INT32_MAX) or 0)
    if rope.kind == "longrope":
        context = config.integer("max_position_embeddings", most=INT32_MAX)
        keys.f32(Keys.Rope.SCALING_ATTN_FACTOR, longrope_attention_factor(original, context))


def _shapes(config: Config) -> Shapes:
    """Queries, keys and values lie in one matrix, the feed-forward layer's gate with what it gates."""
    hidden, inner = config.integer("hidden_size"), config.integer("intermediate_size")
    together = (heads(config) + 2 * kv_heads(config)) * head_width(config)
    shapes = {kind: shape for kind, shape in decoder_shapes(config).items() if kind not in _SEPARATE}
    return {
        **shapes,
        MODEL_TENSOR.ATTN_QKV: (together, hidden),
        MODEL_TENSOR.FFN_UP: (2 * inner, hidden),
    }


def _factors(config: Config) -> Computed:
    rope = read_rope(config)
    if rope.kind != "longrope":
        return {}
    return {
        MODEL_TENSOR.ROPE_FACTORS_LONG: long_factors(config, rope, "long_factor", rotated(config)),
        MODEL_TENSOR.ROPE_FACTORS_SHORT: long_factors(config, rope, "short_factor", rotated(config)),
    }


ARCHITECTURES = (
    Architecture(
        arch=MODEL_ARCH.PHI3,
        classes=("Phi3ForCausalLM",),
        models="Phi 3 and 4",
        hyperparameters=_keys,
        shapes=_shapes,
        computed=_factors,
        defaults={"rms_norm_eps": 1e-5, "max_position_embeddings": 4096},
        left_out=(FREQUENCIES,),
    ),
)
