"""Models as llama.cpp's loader wants them, without weights: headers in front of a hole of the right length.

Written sparse, so that a 70B model takes a few KiB of disk; read as zeros where one is really loaded. The
shapes of the tensors are those that llama.cpp 0c1e57098 asks for when it loads each architecture.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.gguf.ggml_types import GGML_TYPES_BY_NAME
from runtime.gguf.values import ValueType

Hyper = int | float | str | bool | Sequence[int] | Sequence[bool] | Sequence[str]
ALIGNMENT = 32


@dataclass(frozen=True)
class Model:
    """``tensors``: name -> (type, shape in ggml's order). ``hyper`` without the architecture's prefix."""

    architecture: str
    hyper: Mapping[str, Hyper]
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    general: Mapping[str, Hyper] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """A GGUF whose data section is a hole."""
        keys: dict[str, Hyper] = {"general.architecture": self.architecture, "tokenizer.ggml.model": "none"}
        keys |= self.general
        keys |= {f"{self.architecture}.{key}": value for key, value in self.hyper.items()}
        out = bytearray(struct.pack("<4sIQQ", b"GGUF", 3, len(self.tensors), len(keys)))
        for key, value in keys.items():
            out += _text(key) + _value(value)
        offset = 0
        for name, (kind, shape) in self.tensors.items():
            ggml = GGML_TYPES_BY_NAME[kind]
            rows = 1
            for dimension in shape[1:]:
                rows *= dimension
            out += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, ggml.id, offset)
            offset += -(-ggml.row_bytes(shape[0]) * rows // ALIGNMENT) * ALIGNMENT
        out += bytes(-len(out) % ALIGNMENT)
        with path.open("wb") as file:
            file.write(out)
            file.truncate(len(out) + offset)
        return path


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Hyper) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<IB", ValueType.BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", ValueType.U32, value)
    if isinstance(value, float):
        return struct.pack("<If", ValueType.F32, value)
    if isinstance(value, str):
        return struct.pack("<I", ValueType.STRING) + _text(value)
    if value and isinstance(value[0], str):
        texts = b"".join(_text(str(text)) for text in value)
        return struct.pack("<IIQ", ValueType.ARRAY, ValueType.STRING, len(value)) + texts
    if value and isinstance(value[0], bool):
        return struct.pack(f"<IIQ{len(value)}B", ValueType.ARRAY, ValueType.BOOL, len(value), *value)
    return struct.pack(f"<IIQ{len(value)}I", ValueType.ARRAY, ValueType.U32, len(value), *value)


class _Builder:
    """Collects tensors; matrices in ``kind``, vectors in F32."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.tensors: dict[str, tuple[str, tuple[int, ...]]] = {}

    def matrix(self, name: str, *shape: int) -> None:
        self.tensors[name + ".weight"] = (self.kind, shape)

    def vector(self, name: str, *shape: int) -> None:
        self.tensors[name] = ("F32", shape)

    def ends(self, embedding: int, vocabulary: int, *, tied: bool, norm: str = "output_norm") -> None:
        self.matrix("token_embd", embedding, vocabulary)
        self.vector(norm + ".weight", embedding)
        if not tied:
            self.matrix("output", embedding, vocabulary)

    def attention(self, at: str, embedding: int, query: int, key: int, value: int, out: int) -> None:
        self.matrix(at + "attn_q", embedding, query)
        self.matrix(at + "attn_k", embedding, key)
        self.matrix(at + "attn_v", embedding, value)
        self.matrix(at + "attn_output", out, embedding)

    def ffn(self, at: str, embedding: int, width: int, suffix: str = "") -> None:
        self.matrix(at + "ffn_gate" + suffix, embedding, width)
        self.matrix(at + "ffn_up" + suffix, embedding, width)
        self.matrix(at + "ffn_down" + suffix, width, embedding)

    def experts(self, at: str, embedding: int, width: int, count: int) -> None:
        self.vector(at + "ffn_gate_inp.weight", embedding, count)
        self.matrix(at + "ffn_gate_exps", embedding, width, count)
        self.matrix(at + "ffn_up_exps", embedding, width, count)
        self.matrix(at + "ffn_down_exps", width, embedding, count)

    def norms(self, at: str, embedding: int, *names: str) -> None:
        for name in names:
            self.vector(f"{at}{name}.weight", embedding)


def transformer(
    architecture: str = "llama",
    *,
    layers: int,
    embedding: int,
    width: int,
    heads: int,
    kv_heads: int,
    vocabulary: int,
    head: int = 0,
    experts: int = 0,
    experts_used: int = 0,
    window: int = 0,
    pattern: Sequence[bool] = (),
    tied: bool = False,
    kind: str = "Q4_0",
    context: int = 131072,
) -> Model:
    """llama, qwen2, qwen3, qwen3moe, gemma2, gemma3, phi3, gpt-oss: dense or a mixture of experts."""
    head = head or embedding // heads
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=tied)
    for layer in range(layers):
        at = f"blk.{layer}."
        builder.norms(at, embedding, "attn_norm")
        if architecture == "gpt-oss":
            builder.norms(at, embedding, "post_attention_norm")
            builder.vector(at + "attn_sinks.weight", heads)
        else:
            builder.norms(at, embedding, "ffn_norm")
        if architecture.startswith("gemma"):
            builder.norms(at, embedding, "post_attention_norm", "post_ffw_norm")
        if architecture in ("qwen3", "qwen3moe", "gemma3"):
            builder.norms(at, head, "attn_q_norm", "attn_k_norm")
        if architecture == "phi3":
            builder.matrix(at + "attn_qkv", embedding, (heads + 2 * kv_heads) * head)
            builder.matrix(at + "attn_output", heads * head, embedding)
            builder.matrix(at + "ffn_up", embedding, 2 * width)
            builder.matrix(at + "ffn_down", width, embedding)
            continue
        builder.attention(at, embedding, heads * head, kv_heads * head, kv_heads * head, heads * head)
        if architecture in ("qwen2", "gpt-oss"):
            builder.vector(at + "attn_q.bias", heads * head)
            builder.vector(at + "attn_k.bias", kv_heads * head)
            builder.vector(at + "attn_v.bias", kv_heads * head)
        if experts:
            builder.experts(at, embedding, width, experts)
        else:
            builder.ffn(at, embedding, width)
        if architecture == "gpt-oss":
            builder.vector(at + "attn_output.bias", embedding)
            builder.vector(at + "ffn_gate_inp.bias", experts)
            builder.vector(at + "ffn_gate_exps.bias", width, experts)
            builder.vector(at + "ffn_up_exps.bias", width, experts)
            builder.vector(at + "ffn_down_exps.bias", embedding, experts)
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": context,
        "embedding_length": embedding,
        "feed_forward_length": width,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": head,
        "vocab_size": vocabulary,
    }
    if experts:
        hyper |= {"expert_count": experts, "expert_used_count": experts_used}
        hyper |= {"expert_feed_forward_length": width}
    if window:
        hyper["attention.sliding_window"] = window
    if pattern:
        hyper["attention.sliding_window_pattern"] = list(pattern)
    return Model(architecture, hyper, builder.tensors)


def deepseek2(
    *,
    layers: int,
    embedding: int,
    heads: int,
    vocabulary: int,
    width: int,
    expert_width: int,
    experts: int,
    experts_used: int,
    shared: int,
    dense: int,
    rank: int = 512,
    nope: int = 128,
    rope: int = 64,
    value: int = 128,
    latent: bool = True,
    kind: str = "Q4_0",
) -> Model:
    """DeepSeek-V2 and V3: multi-head latent attention, the latent cached (``latent``) or decompressed."""
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=False)
    for layer in range(layers):
        at = f"blk.{layer}."
        builder.norms(at, embedding, "attn_norm", "ffn_norm")
        builder.vector(at + "attn_kv_a_norm.weight", rank)
        builder.matrix(at + "attn_q", embedding, heads * (nope + rope))
        builder.matrix(at + "attn_kv_a_mqa", embedding, rank + rope)
        if latent:
            builder.matrix(at + "attn_k_b", nope, rank, heads)
            builder.matrix(at + "attn_v_b", rank, value, heads)
        else:
            builder.matrix(at + "attn_kv_b", rank, heads * (nope + value))
        builder.matrix(at + "attn_output", heads * value, embedding)
        if layer < dense:
            builder.ffn(at, embedding, width)
        else:
            builder.experts(at, embedding, expert_width, experts)
            builder.ffn(at, embedding, expert_width * shared, "_shexp")
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": 163840,
        "embedding_length": embedding,
        "feed_forward_length": width,
        "leading_dense_block_count": dense,
        "attention.head_count": heads,
        "attention.head_count_kv": 1 if latent else heads,
        "attention.key_length": rank + rope if latent else nope + rope,
        "attention.value_length": rank if latent else value,
        "attention.kv_lora_rank": rank,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "expert_feed_forward_length": expert_width,
        "expert_count": experts,
        "expert_used_count": experts_used,
        "expert_shared_count": shared,
        "expert_weights_scale": 1.0,
        "rope.dimension_count": rope,
        "vocab_size": vocabulary,
    }
    if latent:
        hyper |= {"attention.key_length_mla": nope + rope, "attention.value_length_mla": value}
    return Model("deepseek2", hyper, builder.tensors)


def mamba(*, layers: int, embedding: int, vocabulary: int, state: int = 16, kind: str = "Q4_0") -> Model:
    """Mamba: no attention, one recurrent state a sequence."""
    inner, rank = 2 * embedding, embedding // 16
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=True)
    for layer in range(layers):
        at = f"blk.{layer}."
        builder.norms(at, embedding, "attn_norm")
        _mamba1(builder, at, embedding, inner, state, rank)
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": 1048576,
        "embedding_length": embedding,
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
        "vocab_size": vocabulary,
    }
    return Model("mamba", hyper, builder.tensors)


def _mamba1(builder: _Builder, at: str, embedding: int, inner: int, state: int, rank: int) -> None:
    builder.matrix(at + "ssm_in", embedding, 2 * inner)
    builder.vector(at + "ssm_conv1d.weight", 4, inner)
    builder.vector(at + "ssm_conv1d.bias", inner)
    builder.matrix(at + "ssm_x", inner, rank + 2 * state)
    builder.matrix(at + "ssm_dt", rank, inner)
    builder.vector(at + "ssm_dt.bias", inner)
    builder.vector(at + "ssm_a", state, inner)
    builder.vector(at + "ssm_d", inner)
    builder.matrix(at + "ssm_out", inner, embedding)


def _mamba2(
    builder: _Builder, at: str, embedding: int, inner: int, state: int, heads: int, group: int
) -> None:
    conv = inner + 2 * group * state
    builder.matrix(at + "ssm_in", embedding, inner + conv + heads)
    builder.vector(at + "ssm_conv1d.weight", 4, conv)
    builder.vector(at + "ssm_conv1d.bias", conv)
    builder.vector(at + "ssm_dt.bias", heads)
    builder.vector(at + "ssm_a", 1, heads)
    builder.vector(at + "ssm_d", 1, heads)
    builder.vector(at + "ssm_norm.weight", inner // group, group)
    builder.matrix(at + "ssm_out", inner, embedding)


def hybrid(
    architecture: str,
    *,
    layers: int,
    embedding: int,
    width: int,
    heads: int,
    kv_heads: int,
    vocabulary: int,
    inner: int,
    state: int,
    ssm_heads: int,
    attention_every: int = 8,
    head: int = 0,
    kind: str = "Q4_0",
) -> Model:
    """falcon-h1 (attention and Mamba-2 in each layer), granitehybrid, jamba: some layers of each."""
    head = head or embedding // heads
    group = 1
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=True)
    per_layer: list[int] = []
    for layer in range(layers):
        at = f"blk.{layer}."
        both = architecture == "falcon-h1"
        attends = both or layer % attention_every == attention_every // 2
        per_layer.append(kv_heads if attends else 0)
        builder.norms(at, embedding, "attn_norm")
        builder.vector(at + ("ffn_norm" if both else "ffn_norm.weight"), embedding)
        if attends:
            builder.attention(at, embedding, heads * head, kv_heads * head, kv_heads * head, heads * head)
        if both or not attends:
            if architecture == "jamba":
                _mamba1(builder, at, embedding, inner, state, ssm_heads)
                builder.vector(at + "ssm_dt_norm.weight", ssm_heads)
                builder.norms(at, state, "ssm_b_norm", "ssm_c_norm")
            else:
                _mamba2(builder, at, embedding, inner, state, ssm_heads, group)
        builder.ffn(at, embedding, width)
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": 131072,
        "embedding_length": embedding,
        "feed_forward_length": width,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads if architecture == "falcon-h1" else per_layer,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": head,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": ssm_heads,
        "vocab_size": vocabulary,
    }
    if architecture != "jamba":
        hyper["ssm.group_count"] = group
    return Model(architecture, hyper, builder.tensors)


def qwen3next(
    *,
    layers: int,
    embedding: int,
    heads: int,
    kv_heads: int,
    head: int,
    vocabulary: int,
    expert_width: int,
    experts: int,
    experts_used: int,
    state: int = 128,
    key_heads: int = 16,
    value_heads: int = 32,
    kind: str = "Q4_0",
) -> Model:
    """Qwen3-Next: three layers of gated delta net to one of attention."""
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=False)
    key, value = key_heads * state, value_heads * state
    for layer in range(layers):
        at = f"blk.{layer}."
        builder.norms(at, embedding, "attn_norm", "post_attention_norm")
        if (layer + 1) % 4 == 0:
            builder.attention(at, embedding, 2 * heads * head, kv_heads * head, kv_heads * head, heads * head)
            builder.norms(at, head, "attn_q_norm", "attn_k_norm")
        else:
            builder.matrix(at + "attn_qkv", embedding, 2 * key + value)
            builder.matrix(at + "attn_gate", embedding, value)
            builder.vector(at + "ssm_conv1d.weight", 4, 2 * key + value)
            builder.vector(at + "ssm_dt.bias", value_heads)
            builder.vector(at + "ssm_a", value_heads)
            builder.matrix(at + "ssm_ba", embedding, 2 * value_heads)
            builder.vector(at + "ssm_norm.weight", state)
            builder.matrix(at + "ssm_out", value, embedding)
        builder.experts(at, embedding, expert_width, experts)
        builder.vector(at + "ffn_gate_inp_shexp.weight", embedding)
        builder.ffn(at, embedding, expert_width, "_shexp")
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": 262144,
        "embedding_length": embedding,
        "feed_forward_length": expert_width,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": head // 4,
        "expert_count": experts,
        "expert_used_count": experts_used,
        "expert_feed_forward_length": expert_width,
        "expert_shared_feed_forward_length": expert_width,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": value,
        "ssm.state_size": state,
        "ssm.time_step_rank": value_heads,
        "ssm.group_count": key_heads,
        "vocab_size": vocabulary,
    }
    return Model("qwen3next", hyper, builder.tensors)


def lfm2(
    *,
    layers: int,
    embedding: int,
    width: int,
    heads: int,
    kv_heads: int,
    vocabulary: int,
    attention: Sequence[int],
    kind: str = "Q4_0",
) -> Model:
    """LFM2: short convolutions, attention in the layers named by ``attention``."""
    head = embedding // heads
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=True, norm="token_embd_norm")
    for layer in range(layers):
        at = f"blk.{layer}."
        builder.norms(at, embedding, "attn_norm", "ffn_norm")
        builder.ffn(at, embedding, width)
        if layer in attention:
            builder.norms(at, head, "attn_q_norm", "attn_k_norm")
            builder.attention(at, embedding, embedding, kv_heads * head, kv_heads * head, embedding)
        else:
            builder.vector(at + "shortconv.conv.weight", 3, embedding)
            builder.matrix(at + "shortconv.in_proj", embedding, 3 * embedding)
            builder.matrix(at + "shortconv.out_proj", embedding, embedding)
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": 128000,
        "embedding_length": embedding,
        "feed_forward_length": width,
        "attention.head_count": heads,
        "attention.head_count_kv": [kv_heads if layer in attention else 0 for layer in range(layers)],
        "attention.layer_norm_rms_epsilon": 1e-5,
        "shortconv.l_cache": 3,
        "vocab_size": vocabulary,
    }
    return Model("lfm2", hyper, builder.tensors)


def qwen35(
    *,
    layers: int,
    embedding: int,
    width: int,
    heads: int,
    kv_heads: int,
    head: int,
    vocabulary: int,
    state: int = 128,
    key_heads: int = 16,
    value_heads: int = 32,
    kind: str = "Q4_0",
) -> Model:
    """Qwen3.5 dense: three layers of gated delta net to one of attention, a dense feed-forward network."""
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=False)
    key, value = key_heads * state, value_heads * state
    for layer in range(layers):
        at = f"blk.{layer}."
        builder.norms(at, embedding, "attn_norm", "post_attention_norm")
        if (layer + 1) % 4 == 0:
            builder.attention(at, embedding, 2 * heads * head, kv_heads * head, kv_heads * head, heads * head)
            builder.norms(at, head, "attn_q_norm", "attn_k_norm")
        else:
            builder.matrix(at + "attn_qkv", embedding, 2 * key + value)
            builder.matrix(at + "attn_gate", embedding, value)
            builder.vector(at + "ssm_conv1d.weight", 4, 2 * key + value)
            builder.vector(at + "ssm_dt.bias", value_heads)
            builder.vector(at + "ssm_a", value_heads)
            builder.matrix(at + "ssm_beta", embedding, value_heads)
            builder.matrix(at + "ssm_alpha", embedding, value_heads)
            builder.vector(at + "ssm_norm.weight", state)
            builder.matrix(at + "ssm_out", value, embedding)
        builder.ffn(at, embedding, width)
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": 262144,
        "embedding_length": embedding,
        "feed_forward_length": width,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.dimension_count": head // 4,
        "rope.dimension_sections": [11, 11, 10, 0],
        "ssm.conv_kernel": 4,
        "ssm.inner_size": value,
        "ssm.state_size": state,
        "ssm.time_step_rank": value_heads,
        "ssm.group_count": key_heads,
        "vocab_size": vocabulary,
    }
    return Model("qwen35", hyper, builder.tensors)


def gemma4(
    *,
    layers: int,
    embedding: int,
    width: int,
    heads: int,
    kv_heads: int,
    vocabulary: int,
    head: int = 512,
    head_swa: int = 256,
    window: int = 512,
    shared: int = 0,
    per_layer: int = 0,
    kind: str = "Q4_0",
) -> Model:
    """Gemma 4: windows in five layers of six, heads of two lengths, ``shared`` layers without a cache."""
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=True)
    pattern = [layer % 6 != 5 for layer in range(layers)]
    if per_layer:
        builder.matrix("per_layer_token_embd", per_layer * layers, vocabulary)
        builder.matrix("per_layer_model_proj", embedding, per_layer * layers)
        builder.vector("per_layer_proj_norm.weight", per_layer)
    builder.vector("rope_freqs.weight", head // 2)
    for layer in range(layers):
        at = f"blk.{layer}."
        size = head_swa if pattern[layer] else head
        builder.norms(at, embedding, "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm")
        builder.norms(at, size, "attn_q_norm", "attn_k_norm")
        builder.attention(at, embedding, heads * size, kv_heads * size, kv_heads * size, heads * size)
        builder.ffn(at, embedding, width)
        if per_layer:
            builder.matrix(at + "inp_gate", embedding, per_layer)
            builder.matrix(at + "proj", per_layer, embedding)
            builder.norms(at, embedding, "post_norm")
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": 131072,
        "embedding_length": embedding,
        "embedding_length_per_layer_input": per_layer,
        "feed_forward_length": width,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.key_length_swa": head_swa,
        "attention.value_length_swa": head_swa,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.sliding_window": window,
        "attention.sliding_window_pattern": pattern,
        "attention.shared_kv_layers": shared,
        "rope.dimension_count": head,
        "rope.dimension_count_swa": head_swa,
        "vocab_size": vocabulary,
    }
    return Model("gemma4", hyper, builder.tensors)


def gemma3n(*, layers: int, embedding: int, width: int, vocabulary: int, kind: str = "Q4_0") -> Model:
    """Gemma 3n: four streams of the residual (AltUp), an input of its own for each layer."""
    streams, per_layer, rank, heads, kv_heads, head = 4, 256, 64, 8, 2, 256
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=True)
    builder.vector("altup_proj.weight", embedding, embedding, streams - 1)
    builder.vector("altup_unembd_proj.weight", embedding, embedding, streams - 1)
    builder.matrix("per_layer_token_embd", per_layer * layers, vocabulary)
    builder.matrix("per_layer_model_proj", embedding, per_layer * layers)
    builder.vector("per_layer_proj_norm.weight", per_layer)
    for layer in range(layers):
        at = f"blk.{layer}."
        builder.norms(
            at, embedding, "attn_norm", "ffn_norm", "post_attention_norm", "post_ffw_norm", "post_norm"
        )
        builder.norms(at, embedding, "altup_correct_scale", "altup_router_norm", "laurel_post_norm")
        builder.norms(at, head, "attn_q_norm", "attn_k_norm")
        builder.attention(at, embedding, heads * head, kv_heads * head, kv_heads * head, heads * head)
        builder.ffn(at, embedding, width)
        builder.matrix(at + "inp_gate", embedding, per_layer)
        builder.matrix(at + "proj", per_layer, embedding)
        builder.vector(at + "altup_correct_coef.weight", streams, streams)
        builder.vector(at + "altup_predict_coef.weight", streams, streams * streams)
        builder.vector(at + "altup_router.weight", embedding, streams)
        builder.matrix(at + "laurel_l", embedding, rank)
        builder.matrix(at + "laurel_r", rank, embedding)
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": 32768,
        "embedding_length": embedding,
        "feed_forward_length": width,
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": 1e-6,
        "attention.sliding_window": 512,
        "rope.dimension_count": head,
        "vocab_size": vocabulary,
    }
    return Model("gemma3n", hyper, builder.tensors)


def rwkv7(*, layers: int, embedding: int, width: int, vocabulary: int, kind: str = "Q4_0") -> Model:
    """RWKV-7: no attention, a matrix of state for each head."""
    rank = 64
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=False)
    builder.vector("output_norm.bias", embedding)
    builder.norms("", embedding, "token_embd_norm")
    builder.vector("token_embd_norm.bias", embedding)
    for layer in range(layers):
        at = f"blk.{layer}."
        for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            builder.norms(at, embedding, name)
            builder.vector(f"{at}{name}.bias", embedding)
        for name in "wav":
            builder.norms(at, embedding, f"time_mix_{name}0")
        for name in "wavg":
            builder.matrix(f"{at}time_mix_{name}1", embedding, rank)
            builder.matrix(f"{at}time_mix_{name}2", rank, embedding)
        builder.vector(at + "time_mix_lerp_fused.weight", embedding, 1, 1, 6)
        builder.norms(at, embedding, "time_mix_k_k", "time_mix_k_a", "time_mix_r_k")
        for name in ("key", "value", "receptance", "output"):
            builder.matrix(f"{at}time_mix_{name}", embedding, embedding)
        builder.vector(at + "channel_mix_lerp_k.weight", embedding, 1, 1)
        builder.matrix(at + "channel_mix_key", embedding, width)
        builder.matrix(at + "channel_mix_value", width, embedding)
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": 1048576,
        "embedding_length": embedding,
        "feed_forward_length": width,
        "attention.head_count": 0,
        "attention.layer_norm_epsilon": 1e-5,
        "attention.decay_lora_rank": rank,
        "attention.iclr_lora_rank": rank,
        "attention.value_residual_mix_lora_rank": rank,
        "attention.gate_lora_rank": rank,
        "token_shift_count": 2,
        "wkv.head_size": 64,
        "vocab_size": vocabulary,
    }
    return Model("rwkv7", hyper, builder.tensors)


def nemotron_h(
    *,
    layers: int,
    embedding: int,
    width: int,
    heads: int,
    kv_heads: int,
    head: int,
    vocabulary: int,
    inner: int,
    state: int = 128,
    ssm_heads: int,
    group: int = 8,
    kind: str = "Q4_0",
) -> Model:
    """Nemotron-H: each layer is one of Mamba-2, feed-forward, or attention."""
    builder = _Builder(kind)
    builder.ends(embedding, vocabulary, tied=False)
    kv: list[int] = []
    widths: list[int] = []
    for layer in range(layers):
        at = f"blk.{layer}."
        builder.norms(at, embedding, "attn_norm")
        turn = "attention" if layer % 10 == 7 else ("ssm", "ffn")[layer % 2]
        kv.append(kv_heads if turn == "attention" else 0)
        widths.append(width if turn == "ffn" else 0)
        if turn == "ssm":
            _mamba2(builder, at, embedding, inner, state, ssm_heads, group)
        elif turn == "ffn":
            builder.matrix(at + "ffn_up", embedding, width)
            builder.matrix(at + "ffn_down", width, embedding)
        else:
            builder.attention(at, embedding, heads * head, kv_heads * head, kv_heads * head, heads * head)
    hyper: dict[str, Hyper] = {
        "block_count": layers,
        "context_length": 131072,
        "embedding_length": embedding,
        "feed_forward_length": widths,
        "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_epsilon": 1e-5,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": head,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": ssm_heads,
        "ssm.group_count": group,
        "vocab_size": vocabulary,
    }
    return Model("nemotron_h", hyper, builder.tensors)


V = 32000
ZOO = {
    "llama": transformer(
        layers=4, embedding=2048, width=8192, heads=32, kv_heads=8, vocabulary=128256, tied=True
    ),
    "mixtral": transformer(
        layers=4,
        embedding=1024,
        width=3584,
        heads=16,
        kv_heads=4,
        vocabulary=V,
        experts=8,
        experts_used=2,
    ),
    "qwen2": transformer(
        "qwen2", layers=4, embedding=1792, width=9472, heads=14, kv_heads=2, vocabulary=152064
    ),
    "qwen3": transformer(
        "qwen3",
        layers=4,
        embedding=1024,
        width=3072,
        heads=16,
        kv_heads=8,
        head=128,
        vocabulary=V,
        tied=True,
    ),
    "qwen3moe": transformer(
        "qwen3moe",
        layers=4,
        embedding=1024,
        width=384,
        heads=16,
        kv_heads=4,
        head=128,
        vocabulary=V,
        experts=32,
        experts_used=8,
    ),
    "gemma2": transformer(
        "gemma2",
        layers=6,
        embedding=1792,
        width=7168,
        heads=8,
        kv_heads=4,
        head=256,
        vocabulary=V,
        window=1024,
        tied=True,
    ),
    "gemma3": transformer(
        "gemma3",
        layers=14,
        embedding=1280,
        width=5120,
        heads=4,
        kv_heads=2,
        head=256,
        vocabulary=262208,
        window=512,
        tied=True,
    ),
    "phi3": transformer("phi3", layers=4, embedding=1536, width=4096, heads=16, kv_heads=16, vocabulary=V),
    "gpt-oss": transformer(
        "gpt-oss",
        layers=6,
        embedding=1440,
        width=1440,
        heads=32,
        kv_heads=4,
        head=64,
        vocabulary=V,
        window=128,
        experts=16,
        experts_used=4,
    ),
    "deepseek2": deepseek2(
        layers=27,  # with another number llama.cpp expects low-rank queries
        embedding=1024,
        heads=16,
        vocabulary=V,
        width=5472,
        expert_width=704,
        experts=16,
        experts_used=6,
        shared=2,
        dense=1,
    ),
    "deepseek2 decompressed": deepseek2(
        layers=27,  # with another number llama.cpp expects low-rank queries
        embedding=1024,
        heads=16,
        vocabulary=V,
        width=5472,
        expert_width=704,
        experts=16,
        experts_used=6,
        shared=2,
        dense=1,
        latent=False,
    ),
    "mamba": mamba(layers=4, embedding=1024, vocabulary=V),
    "falcon-h1": hybrid(
        "falcon-h1",
        layers=4,
        embedding=1024,
        width=2048,
        heads=8,
        kv_heads=2,
        head=64,
        vocabulary=V,
        inner=1536,
        state=256,
        ssm_heads=24,
    ),
    "granitehybrid": hybrid(
        "granitehybrid",
        layers=8,
        embedding=1536,
        width=4096,
        heads=12,
        kv_heads=4,
        vocabulary=V,
        inner=3072,
        state=128,
        ssm_heads=48,
    ),
    "jamba": hybrid(
        "jamba",
        layers=8,
        embedding=1024,
        width=4096,
        heads=16,
        kv_heads=2,
        vocabulary=V,
        inner=2048,
        state=16,
        ssm_heads=64,
    ),
    "nemotron_h": nemotron_h(
        layers=10,
        embedding=2048,
        width=10752,
        heads=16,
        kv_heads=8,
        head=128,
        vocabulary=V,
        inner=4096,
        ssm_heads=64,
    ),
    "qwen3next": qwen3next(
        layers=8,
        embedding=1024,
        heads=8,
        kv_heads=2,
        head=256,
        vocabulary=V,
        expert_width=256,
        experts=64,
        experts_used=10,
        key_heads=8,
        value_heads=16,
    ),
    "qwen35": qwen35(layers=8, embedding=2560, width=9216, heads=16, kv_heads=4, head=256, vocabulary=V),
    "gemma4": gemma4(
        layers=12,
        embedding=1536,
        width=6144,
        heads=8,
        kv_heads=1,
        vocabulary=V,
        shared=6,
        per_layer=256,
    ),
    "gemma3n": gemma3n(layers=30, embedding=1024, width=4096, vocabulary=V),
    "rwkv7": rwkv7(layers=4, embedding=2048, width=8192, vocabulary=V),
    "lfm2": lfm2(layers=6, embedding=1024, width=4096, heads=16, kv_heads=8, vocabulary=V, attention=(2, 5)),
}
"""One model of each kind, small enough that llama.cpp sets it up in some milliseconds."""
