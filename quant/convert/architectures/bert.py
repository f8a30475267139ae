"""Embedders of the BERT family: BERT itself, RoBERTa and XLM-RoBERTa."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from gguf import MODEL_ARCH, MODEL_TENSOR, Keys

from quant.convert.architectures.architecture import Architecture, Change, Hyperparameters, Shapes
from quant.convert.architectures.decoder import heads, require_activation
from quant.convert.config import INT32_MAX, Config
from quant.convert.pooling import pooling_type

_HEADS = (
    re.compile(r"(embeddings\.position_ids|pooler\..*)"),
    re.compile(r"(cls\.|lm_head\.).*"),
)
"""What serves to guess masked words, or to compare sentences in training."""


def _behind_padding(config: Config) -> int:
    """RoBERTa counts positions from one behind the padding token's id."""
    return 1 + config.integer("pad_token_id", least=0)


def _context(config: Config, skipped: int) -> int:
    length = config.integer("max_position_embeddings", most=INT32_MAX)
    if length <= skipped:
        raise config.refuse("max_position_embeddings", f"is {length}, of which {skipped} are not used")
    return length - skipped


def _keys(config: Config, keys: Hyperparameters, skipped: int) -> None:
    require_activation(config, "gelu")
    if config.get("position_embedding_type") is not None:
        config.require("position_embedding_type", "absolute", why="llama.cpp adds learned positions")
    keys.u32(Keys.LLM.BLOCK_COUNT, config.integer("num_hidden_layers", most=512))
    keys.u32(Keys.LLM.CONTEXT_LENGTH, _context(config, skipped))
    keys.u32(Keys.LLM.EMBEDDING_LENGTH, config.integer("hidden_size"))
    keys.u32(Keys.LLM.FEED_FORWARD_LENGTH, config.integer("intermediate_size"))
    keys.u32(Keys.Attention.HEAD_COUNT, heads(config))
    keys.f32(Keys.Attention.LAYERNORM_EPS, config.number("layer_norm_eps"))
    keys.flag(Keys.Attention.CAUSAL, False)
    keys.u32(Keys.LLM.POOLING_TYPE, pooling_type(config.folder))
    keys.u32(Keys.Tokenizer.TOKEN_TYPE_COUNT, config.integer("type_vocab_size"))


def _shapes(config: Config) -> Shapes:
    hidden, inner = config.integer("hidden_size"), config.integer("intermediate_size")
    square = (hidden, hidden)
    return {
        MODEL_TENSOR.TOKEN_EMBD: (config.integer("vocab_size"), hidden),
        MODEL_TENSOR.TOKEN_TYPES: (config.integer("type_vocab_size"), hidden),
        MODEL_TENSOR.POS_EMBD: (config.integer("max_position_embeddings", most=INT32_MAX), hidden),
        MODEL_TENSOR.TOKEN_EMBD_NORM: (hidden,),
        MODEL_TENSOR.ATTN_Q: square,
        MODEL_TENSOR.ATTN_K: square,
        MODEL_TENSOR.ATTN_V: square,
        MODEL_TENSOR.ATTN_OUT: square,
        MODEL_TENSOR.ATTN_OUT_NORM: (hidden,),
        MODEL_TENSOR.FFN_UP: (inner, hidden),
        MODEL_TENSOR.FFN_DOWN: (hidden, inner),
        MODEL_TENSOR.LAYER_OUT_NORM: (hidden,),
    }


def _bert_keys(config: Config, keys: Hyperparameters) -> None:
    _keys(config, keys, skipped=0)


def _roberta_keys(config: Config, keys: Hyperparameters) -> None:
    _keys(config, keys, skipped=_behind_padding(config))


def _later_positions(config: Config) -> Mapping[MODEL_TENSOR, Change]:
    return {MODEL_TENSOR.POS_EMBD: Change(skip_rows=_behind_padding(config))}


_BERT = Architecture(
    arch=MODEL_ARCH.BERT,
    classes=("BertModel", "BertForMaskedLM"),
    models="BERT embedders",
    hyperparameters=_bert_keys,
    shapes=_shapes,
    defaults={"layer_norm_eps": 1e-12, "type_vocab_size": 2, "hidden_act": "gelu"},
    left_out=_HEADS,
    prefixes=("bert.",),
    embedder=True,
)

ARCHITECTURES = (
    _BERT,
    replace(
        _BERT,
        classes=("RobertaModel", "RobertaForMaskedLM", "XLMRobertaModel", "XLMRobertaForMaskedLM"),
        models="RoBERTa and XLM-RoBERTa embedders",
        hyperparameters=_roberta_keys,
        changes=_later_positions,
        defaults={**_BERT.defaults, "pad_token_id": 1},
        prefixes=("roberta.",),
    ),
)
