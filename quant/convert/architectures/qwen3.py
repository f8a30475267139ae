"""Qwen 3, dense and with experts."""

from __future__ import annotations

from gguf import MODEL_ARCH, MODEL_TENSOR, Keys

from quant.convert.architectures.architecture import Architecture, Hyperparameters, Shapes
from quant.convert.architectures.decoder import (
    FREQUENCIES,
    decoder_keys,
    decoder_shapes,
    expert_keys,
    head_width,
    require_activation,
    require_rope,
    with_experts,
)
from quant.convert.config import Config
from quant.errors import CannotConvert


def _keys(config: Config, keys: Hyperparameters) -> None:
    require_activation(config, "silu")
    require_rope(config, "linear", "yarn")
    decoder_keys(config, keys)


def _shapes(config: Config) -> Shapes:
    return {
        **decoder_shapes(config),
        MODEL_TENSOR.ATTN_Q_NORM: (head_width(config),),
        MODEL_TENSOR.ATTN_K_NORM: (head_width(config),),
    }


def _expert_keys(config: Config, keys: Hyperparameters) -> None:
    config.require("norm_topk_prob", True, why="llama.cpp always makes the experts' shares sum to one")
    if config.get("mlp_only_layers") or config.optional_integer("decoder_sparse_step") not in (None, 1):
        raise CannotConvert(
            config.folder, "some of its layers have no experts, which llama.cpp does not compute"
        )
    _keys(config, keys)
    expert_keys(config, keys)
    keys.u32(Keys.LLM.EXPERT_FEED_FORWARD_LENGTH, config.integer("moe_intermediate_size"))


def _expert_shapes(config: Config) -> Shapes:
    return with_experts(
        _shapes(config),
        config.integer("num_experts", "num_local_experts", most=1024),
        config.integer("moe_intermediate_size"),
        config.integer("hidden_size"),
    )


ARCHITECTURES = (
    Architecture(
        arch=MODEL_ARCH.QWEN3,
        classes=("Qwen3ForCausalLM",),
        models="Qwen 3",
        hyperparameters=_keys,
        shapes=_shapes,
        defaults={"head_dim": 128, "rms_norm_eps": 1e-6, "max_position_embeddings": 32768},
        left_out=(FREQUENCIES,),
    ),
    Architecture(
        arch=MODEL_ARCH.QWEN3MOE,
        classes=("Qwen3MoeForCausalLM",),
        models="Qwen 3 with experts",
        hyperparameters=_expert_keys,
        shapes=_expert_shapes,
        defaults={"rms_norm_eps": 1e-6, "norm_topk_prob": False, "num_experts_per_tok": 8},
        left_out=(FREQUENCIES,),
    ),
)
