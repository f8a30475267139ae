"""Qwen 2 and 2.5."""

from __future__ import annotations

from gguf import MODEL_ARCH

from quant.convert.architectures.architecture import Architecture, Hyperparameters
from quant.convert.architectures.decoder import (
    FREQUENCIES,
    decoder_keys,
    decoder_shapes,
    require_activation,
    require_rope,
)
from quant.convert.config import Config


def _keys(config: Config, keys: Hyperparameters) -> None:
    require_activation(config, "silu")
    require_rope(config, "linear", "yarn")
    decoder_keys(config, keys)


ARCHITECTURES = (
    Architecture(
        arch=MODEL_ARCH.QWEN2,
        classes=("Qwen2ForCausalLM",),
        models="Qwen 2 and 2.5",
        hyperparameters=_keys,
        shapes=decoder_shapes,
        defaults={"rms_norm_eps": 1e-6, "max_position_embeddings": 32768},
        left_out=(FREQUENCIES,),
    ),
)
