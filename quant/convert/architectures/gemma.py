"""Gemma 2 and 3; of Gemma 3 with vision, the language model."""

from __future__ import annotations

from collections.abc import Mapping

from gguf import MODEL_ARCH, MODEL_TENSOR, Keys

from quant.convert.architectures.architecture import Architecture, Change, Hyperparameters, Shapes
from quant.convert.architectures.decoder import (
    FREQUENCIES,
    OTHER_SENSES,
    decoder_keys,
    decoder_shapes,
    head_width,
    heads,
    require_activation,
    require_rope,
)
from quant.convert.config import INT32_MAX, Config
from quant.convert.rope import read_rope
from quant.errors import CannotConvert

_GELU = ("gelu_pytorch_tanh",)


def _gemma_shapes(config: Config) -> Shapes:
    hidden = config.integer("hidden_size")
    return {
        **decoder_shapes(config),
        MODEL_TENSOR.ATTN_POST_NORM: (hidden,),
        MODEL_TENSOR.FFN_POST_NORM: (hidden,),
    }


def _gemma3_shapes(config: Config) -> Shapes:
    return {
        **_gemma_shapes(config),
        MODEL_TENSOR.ATTN_Q_NORM: (head_width(config),),
        MODEL_TENSOR.ATTN_K_NORM: (head_width(config),),
    }


def _shifted_norms(config: Config) -> Mapping[MODEL_TENSOR, Change]:
    """Gemma multiplies by one more than the weight."""
    return {kind: Change(shift=1.0) for kind in _gemma3_shapes(config) if kind.name.endswith("NORM")}


def _require_scale(config: Config, layers_27b: int) -> None:
    """llama.cpp does not read the scale of attention: it takes the head's width, or for the 27B another."""
    given = config.optional_number("query_pre_attn_scalar")
    blocks = config.integer("num_hidden_layers")
    computed = config.integer("hidden_size") // heads(config) if blocks == layers_27b else head_width(config)
    if given is not None and given != computed:
        raise CannotConvert(
            config.folder,
            f"query_pre_attn_scalar in its config.json is {given:g}; llama.cpp computes with {computed}",
        )


def _require_windows(config: Config, every: int) -> None:
    """llama.cpp takes one full layer behind ``every`` - 1 with sliding windows for granted."""
    types = config.get("layer_types")
    if types is None:
        pattern = config.optional_integer("sliding_window_pattern", "_sliding_window_pattern", most=512)
        types_fit = pattern in (None, every)
    else:
        expected = [
            "sliding_attention" if (layer + 1) % every else "full_attention"
            for layer in range(config.integer("num_hidden_layers", most=512))
        ]
        types_fit = types == expected
    if not types_fit:
        raise CannotConvert(
            config.folder, f"not every {every}th of its layers sees the whole context, as llama.cpp expects"
        )


def _gemma2_keys(config: Config, keys: Hyperparameters) -> None:
    require_activation(config, *_GELU)
    require_rope(config)
    _require_scale(config, layers_27b=46)
    _require_windows(config, every=2)
    decoder_keys(config, keys)
    keys.f32(Keys.LLM.ATTN_LOGIT_SOFTCAPPING, config.number("attn_logit_softcapping"))
    keys.f32(Keys.LLM.FINAL_LOGIT_SOFTCAPPING, config.number("final_logit_softcapping"))
    keys.u32(Keys.Attention.SLIDING_WINDOW, config.integer("sliding_window", most=INT32_MAX))


def _gemma3_keys(config: Config, keys: Hyperparameters) -> None:
    require_activation(config, *_GELU)
    require_rope(config, "linear")
    _require_scale(config, layers_27b=62)
    _require_windows(config, every=6)
    config.require("attn_logit_softcapping", None, why="llama.cpp has no such cap for Gemma 3")
    decoder_keys(config, keys)
    keys.f32(Keys.LLM.FINAL_LOGIT_SOFTCAPPING, config.optional_number("final_logit_softcapping"))
    keys.u32(Keys.Attention.SLIDING_WINDOW, config.integer("sliding_window", most=INT32_MAX))
    keys.f32(Keys.Rope.FREQ_BASE_SWA, read_rope(config).sliding_theta or 10_000.0)


ARCHITECTURES = (
    Architecture(
        arch=MODEL_ARCH.GEMMA2,
        classes=("Gemma2ForCausalLM",),
        models="Gemma 2",
        hyperparameters=_gemma2_keys,
        shapes=_gemma_shapes,
        changes=_shifted_norms,
        defaults={
            "head_dim": 256,
            "num_key_value_heads": 4,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-6,
            "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "sliding_window": 4096,
            "tie_word_embeddings": True,
        },
        left_out=(FREQUENCIES,),
    ),
    Architecture(
        arch=MODEL_ARCH.GEMMA3,
        classes=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
        models="Gemma 3",
        hyperparameters=_gemma3_keys,
        shapes=_gemma3_shapes,
        changes=_shifted_norms,
        defaults={
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "vocab_size": 262_208,
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "query_pre_attn_scalar": 256,
            "sliding_window": 4096,
            "tie_word_embeddings": True,
        },
        left_out=(FREQUENCIES, OTHER_SENSES),
    ),
)
