"""Small checkpoints with random weights, made by transformers: one for each architecture that is converted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

VOCABULARY = 320
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def _llama(**more: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**GROUPED | more))


def _mistral(**more: Any) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**GROUPED | {"sliding_window": None} | more))


def _mixtral(**more: Any) -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}
    return MixtralForCausalLM(MixtralConfig(**sizes | more))


def _qwen2(**more: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**GROUPED | more))


def _qwen3(**more: Any) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**GROUPED | {"head_dim": 32} | more))


def _qwen3_moe(**more: Any) -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes = GROUPED | {
        "head_dim": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
    }
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes | more))


def _gemma2(**more: Any) -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes = GROUPED | {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16}
    return Gemma2ForCausalLM(Gemma2Config(**sizes | {"attn_implementation": "eager"} | more))


def _gemma3(**more: Any) -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    sizes = GROUPED | {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16, "num_hidden_layers": 7}
    return Gemma3ForCausalLM(Gemma3TextConfig(**sizes | more))


def _phi3(**more: Any) -> Any:
    from transformers import Phi3Config, Phi3ForCausalLM

    return Phi3ForCausalLM(Phi3Config(**GROUPED | {"original_max_position_embeddings": 256} | more))


def _granite(**more: Any) -> Any:
    from transformers import GraniteConfig, GraniteForCausalLM

    sizes = GROUPED | {
        "attention_multiplier": 0.1,
        "embedding_multiplier": 6.0,
        "residual_multiplier": 0.3,
        "logits_scaling": 4.0,
    }
    return GraniteForCausalLM(GraniteConfig(**sizes | more))


def _olmo2(**more: Any) -> Any:
    from transformers import Olmo2Config, Olmo2ForCausalLM

    return Olmo2ForCausalLM(Olmo2Config(**GROUPED | more))


def _bert(**more: Any) -> Any:
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig(**SIZES | {"type_vocab_size": 2} | more))


def _xlm_roberta(**more: Any) -> Any:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    return XLMRobertaModel(XLMRobertaConfig(**SIZES | {"pad_token_id": 1, "type_vocab_size": 1} | more))


def _roberta(**more: Any) -> Any:
    from transformers import RobertaConfig, RobertaModel

    return RobertaModel(RobertaConfig(**SIZES | {"pad_token_id": 1, "type_vocab_size": 1} | more))


_LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "original_max_position_embeddings": 128,
    "long_factor": [1.0 + 0.25 * index for index in range(8)],
    "short_factor": [1.0 + 0.1 * index for index in range(8)],
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
_GEMMA_ROPE = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}

DECODERS: dict[str, Callable[[], Any]] = {
    "llama2": _llama,
    "llama3": lambda: _llama(rope_parameters=LLAMA3),
    "smollm": lambda: _llama(tie_word_embeddings=True, num_attention_heads=3, num_key_value_heads=3, hidden_size=96),
    "llama-biases": lambda: _llama(attention_bias=True, mlp_bias=True),
    "llama-linear": lambda: _llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}),
    "mistral": lambda: _mistral(head_dim=32),
    "mixtral": _mixtral,
    "qwen2": lambda: _qwen2(tie_word_embeddings=True),
    "qwen2-yarn": lambda: _qwen2(rope_parameters=_YARN),
    "qwen3": _qwen3,
    "qwen3-moe": _qwen3_moe,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gemma3-linear": lambda: _gemma3(rope_parameters=_GEMMA_ROPE),
    "phi3": _phi3,
    "phi3-long": lambda: _phi3(rope_parameters=_LONG),
    "phi4-mini": lambda: _phi3(
        partial_rotary_factor=0.75,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
    ),
    "granite": _granite,
    "olmo2": _olmo2,
}
EMBEDDERS: dict[str, Callable[[], Any]] = {"bert": _bert, "roberta": _roberta, "xlm-roberta": _xlm_roberta}


def save_checkpoint(name: str, folder: Path, *, dtype: str = "float32", shards: str = "50GB") -> Any:
    """Saves the checkpoint called ``name`` to ``folder``, without a tokenizer; returns the model.

    Every weight is random, those of norms and biases too, so that none can be mistaken for another.
    """
    import torch

    torch.manual_seed(sum(name.encode()))
    model = (DECODERS | EMBEDDERS)[name]()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                centre = 1.0 if "norm" in parameter_name.lower() and parameter_name.endswith("weight") else 0.0
                parameter.normal_(0.0 if "gemma" in name else centre, 0.1)
            else:
                parameter.normal_(0.0, 0.12)
    model = model.to(getattr(torch, dtype)).eval()
    model.save_pretrained(folder, max_shard_size=shards)
    return model
