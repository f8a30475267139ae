"""Llama 2 and 3.x and what is built like them: SmolLM, Mistral, Mixtral."""

from __future__ import annotations

from gguf import MODEL_ARCH

from quant.convert.architectures.architecture import Architecture, Hyperparameters, Shapes
from quant.convert.architectures.decoder import (
    FREQUENCIES,
    decoder_keys,
    decoder_shapes,
    expert_keys,
    interleaved_heads,
    require_activation,
    require_rope,
    rope_factors,
    with_experts,
)
from quant.convert.config import Config


def _keys(config: Config, keys: Hyperparameters) -> None:
    require_activation(config, "silu")
    require_rope(config, "linear", "yarn", "llama3")
    decoder_keys(config, keys)


def _mixtral_keys(config: Config, keys: Hyperparameters) -> None:
    _keys(config, keys)
    expert_keys(config, keys)


def _mixtral_shapes(config: Config) -> Shapes:
    return with_experts(
        decoder_shapes(config),
        config.integer("num_local_experts", most=1024),
        config.integer("intermediate_size"),
        config.integer("hidden_size"),
    )


ARCHITECTURES = (
    Architecture(
        arch=MODEL_ARCH.LLAMA,
        classes=("LlamaForCausalLM", "MistralForCausalLM"),
        models="Llama 2 and 3, SmolLM, Mistral",
        hyperparameters=_keys,
        shapes=decoder_shapes,
        changes=interleaved_heads,
        computed=rope_factors,
        defaults={"rms_norm_eps": 1e-6, "max_position_embeddings": 2048, "vocab_size": 32000},
        left_out=(FREQUENCIES,),
    ),
    Architecture(
        arch=MODEL_ARCH.LLAMA,
        classes=("MixtralForCausalLM",),
        models="Mixtral",
        hyperparameters=_mixtral_keys,
        shapes=_mixtral_shapes,
        changes=interleaved_heads,
        computed=rope_factors,
        defaults={
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1e6,
            "num_key_value_heads": 8,
        },
        left_out=(FREQUENCIES,),
    ),
)
