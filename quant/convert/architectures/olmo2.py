"""OLMo 2."""

from __future__ import annotations

from gguf import MODEL_ARCH, MODEL_TENSOR

from quant.convert.architectures.architecture import Architecture, Hyperparameters, Shapes
from quant.convert.architectures.decoder import (
    FREQUENCIES,
    decoder_keys,
    decoder_shapes,
    head_width,
    heads,
    kv_heads,
    require_activation,
    require_rope,
)
from quant.convert.config import Config

_BEFORE = (MODEL_TENSOR.ATTN_NORM, MODEL_TENSOR.FFN_NORM)


def _keys(config: Config, keys: Hyperparameters) -> None:
    require_activation(config, "silu")
    require_rope(config, "linear", "yarn")
    config.require("tie_word_embeddings", False, None, why="llama.cpp reads an output matrix of its own")
    decoder_keys(config, keys)


def _shapes(config: Config) -> Shapes:
    """Normalized behind attention and the feed-forward layer, not before them."""
    hidden = config.integer("hidden_size")
    shapes = {kind: shape for kind, shape in decoder_shapes(config).items() if kind not in _BEFORE}
    return {
        **shapes,
        MODEL_TENSOR.ATTN_Q_NORM: (heads(config) * head_width(config),),
        MODEL_TENSOR.ATTN_K_NORM: (kv_heads(config) * head_width(config),),
        MODEL_TENSOR.ATTN_POST_NORM: (hidden,),
        MODEL_TENSOR.FFN_POST_NORM: (hidden,),
    }


ARCHITECTURES = (
    Architecture(
        arch=MODEL_ARCH.OLMO2,
        classes=("Olmo2ForCausalLM",),
        models="OLMo 2",
        hyperparameters=_keys,
        shapes=_shapes,
        defaults={"rms_norm_eps": 1e-5, "max_position_embeddings": 2048},
        left_out=(FREQUENCIES,),
    ),
)
