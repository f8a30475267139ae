"""Granite 3 and the dense ones of 4."""

from __future__ import annotations

from gguf import MODEL_ARCH, Keys

from quant.convert.architectures.architecture import Architecture, Hyperparameters
from quant.convert.architectures.decoder import (
    FREQUENCIES,
    decoder_keys,
    decoder_shapes,
    interleaved_heads,
    require_activation,
    require_rope,
)
from quant.convert.config import Config


def _keys(config: Config, keys: Hyperparameters) -> None:
    require_activation(config, "silu")
    require_rope(config, "linear", "yarn")
    decoder_keys(config, keys)
    keys.f32(Keys.Attention.SCALE, config.number("attention_multiplier"))
    keys.f32(Keys.LLM.EMBEDDING_SCALE, config.number("embedding_multiplier"))
    keys.f32(Keys.LLM.RESIDUAL_SCALE, config.number("residual_multiplier"))
    keys.f32(Keys.LLM.LOGIT_SCALE, config.number("logits_scaling"))


ARCHITECTURES = (
    Architecture(
        arch=MODEL_ARCH.GRANITE,
        classes=("GraniteForCausalLM",),
        models="Granite 3",
        hyperparameters=_keys,
        shapes=decoder_shapes,
        changes=interleaved_heads,
        defaults={
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 2048,
            "attention_multiplier": 1.0,
            "embedding_multiplier": 1.0,
            "residual_multiplier": 1.0,
            "logits_scaling": 1.0,
        },
        left_out=(FREQUENCIES,),
    ),
)
