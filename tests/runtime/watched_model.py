"""Small random llamas, dense or with experts: written as GGUF, and run in NumPy to know their inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from quant.formats.format import Format
from quant.formats.quantize import quantize
from tests.runtime.byte_model import byte_tokens

Array = NDArray[np.float64]
EPSILON, ROPE_BASE = 1e-5, 10000.0
Noting = Callable[..., None]
FIRST = 257
"""The token that every sequence begins with, where the model wants one."""


@dataclass
class WatchedLlama:
    """A llama over a vocabulary of bytes and the pair "th": the token of a byte is its value."""

    hidden: int = 64
    width: int = 512
    heads: int = 4
    key_heads: int = 2
    layers: int = 3
    experts: int = 0
    used: int = 0
    wants_first: bool = False
    tied: bool = True
    template: str = ""
    weights: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dice = np.random.default_rng(3)
        for name, shape in self._shapes().items():
            values = dice.standard_normal(shape) * (0.15 if len(shape) > 1 else 0.1) + (len(shape) == 1)
            # float16 holds them exactly: llama.cpp and NumPy multiply with the same numbers
            self.weights[name] = values.astype(np.float16).astype(np.float64)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        keys = self.hidden // self.heads * self.key_heads
        shapes: dict[str, tuple[int, ...]] = {
            "token_embd": (FIRST + 2, self.hidden),
            "output_norm": (self.hidden,),
        }
        if not self.tied:
            shapes["output"] = (FIRST + 2, self.hidden)
        for layer in range(self.layers):
            at = f"blk.{layer}."
            shapes |= {at + "attn_norm": (self.hidden,), at + "ffn_norm": (self.hidden,)}
            shapes |= {
                at + "attn_q": (self.hidden, self.hidden),
                at + "attn_output": (self.hidden, self.hidden),
            }
            shapes |= {at + "attn_k": (keys, self.hidden), at + "attn_v": (keys, self.hidden)}
            stack = (self.experts,) if self.experts else ()
            suffix = "_exps" if self.experts else ""
            if self.experts:
                shapes[at + "ffn_gate_inp"] = (self.experts, self.hidden)
            shapes |= {
                f"{at}ffn_{part}{suffix}": (*stack, self.width, self.hidden) for part in ("gate", "up")
            }
            shapes[f"{at}ffn_down{suffix}"] = (*stack, self.hidden, self.width)
        return shapes

    def write(self, path: Path, fmt: Format | None = None) -> Path:
        """Matrices in F32, or in ``fmt`` where its blocks divide their rows; routers and vectors in F32."""
        writer = gguf.GGUFWriter(str(path), "llama")
        writer.add_context_length(1024)
        writer.add_embedding_length(self.hidden)
        writer.add_block_count(self.layers)
        writer.add_feed_forward_length(self.width)
        writer.add_head_count(self.heads)
        writer.add_head_count_kv(self.key_heads)
        writer.add_layer_norm_rms_eps(EPSILON)
        writer.add_rope_dimension_count(self.hidden // self.heads)
        writer.add_rope_freq_base(ROPE_BASE)
        writer.add_vocab_size(FIRST + 2)
        if self.experts:
            writer.add_expert_count(self.experts)
            writer.add_expert_used_count(self.used)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list([*byte_tokens(), "th", "<s>", "</s>"])
        writer.add_token_types([1] * FIRST + [3, 3])
        writer.add_token_merges(["t h"])
        writer.add_bos_token_id(FIRST)
        writer.add_eos_token_id(FIRST + 1)
        writer.add_add_bos_token(self.wants_first)
        if self.template:
            writer.add_chat_template(self.template)
        for name, values in self.weights.items():
            weights = values.astype(np.float32)
            if fmt and weights.ndim > 1 and fmt.fits(weights.shape[-1]) and not name.endswith("gate_inp"):
                data = quantize(fmt, weights.reshape(-1, weights.shape[-1]))
                kind = gguf.GGMLQuantizationType(fmt.ggml_type)
                writer.add_tensor(f"{name}.weight", data.reshape(*weights.shape[:-1], -1), raw_dtype=kind)
            else:
                writer.add_tensor(f"{name}.weight", weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def inputs(self, chunks: list[list[int]]) -> dict[str, list[Array]]:
        """Tensor name -> the rows that each of its matrices gets, one matrix or one for each expert."""
        found: dict[str, list[list[Array]]] = {}

        def note(name: str, rows: Array, matrix: int = 0) -> None:
            found.setdefault(f"{name}.weight", [[] for _ in range(self.experts or 1)])[matrix].append(rows)

        for chunk in chunks:
            stream = self.weights["token_embd"][chunk]
            for layer in range(self.layers):
                at = f"blk.{layer}."
                stream = stream + self._attention(at, _norm(stream, self.weights[at + "attn_norm"]), note)
                stream = stream + self._forward(at, _norm(stream, self.weights[at + "ffn_norm"]), note)
            note("token_embd" if self.tied else "output", _norm(stream, self.weights["output_norm"]))
        empty = np.zeros((0, 0))
        return {
            name: [np.concatenate(part) if part else empty for part in parts] for name, parts in found.items()
        }

    def _attention(self, at: str, x: Array, note: Noting) -> Array:
        size = self.hidden // self.heads
        for part in "qkv":
            note(f"{at}attn_{part}", x)
        query, key, value = (
            (x @ self.weights[f"{at}attn_{part}"].T).reshape(len(x), -1, size) for part in "qkv"
        )
        query, key, value = _half(_rope(query)), _half(_rope(key)), _half(value)
        group = self.heads // self.key_heads
        heads = []
        for head in range(self.heads):
            scores = query[:, head] @ key[:, head // group].T / np.sqrt(size)
            scores[np.triu_indices(len(x), 1)] = -np.inf
            heads.append(_half(_softmax(scores)) @ value[:, head // group])
        joined = np.concatenate(heads, axis=1)
        note(f"{at}attn_output", joined)
        return joined @ self.weights[f"{at}attn_output"].T

    def _forward(self, at: str, x: Array, note: Noting) -> Array:
        if not self.experts:
            note(f"{at}ffn_gate", x)
            note(f"{at}ffn_up", x)
            inner = _silu(x @ self.weights[f"{at}ffn_gate"].T) * (x @ self.weights[f"{at}ffn_up"].T)
            note(f"{at}ffn_down", inner)
            return inner @ self.weights[f"{at}ffn_down"].T
        note(f"{at}ffn_gate_inp", x)
        shares = _softmax(x @ self.weights[f"{at}ffn_gate_inp"].T)
        chosen = np.argsort(-shares, axis=1)[:, : self.used]
        out = np.zeros_like(x)
        for expert in range(self.experts):
            rows = np.flatnonzero((chosen == expert).any(axis=1))
            if len(rows) == 0:
                continue
            mine = x[rows]
            gate, up, down = (self.weights[f"{at}ffn_{part}_exps"][expert] for part in ("gate", "up", "down"))
            inner = _silu(mine @ gate.T) * (mine @ up.T)
            for part, values in (("gate", mine), ("up", mine), ("down", inner)):
                note(f"{at}ffn_{part}_exps", values, expert)
            total = np.take_along_axis(shares, chosen, axis=1).sum(axis=1)[rows]
            out[rows] += (inner @ down.T) * (shares[rows, expert] / total)[:, None]
        return out


def _half(x: Array) -> Array:
    """Through float16, as llama.cpp keeps keys and values and multiplies with them."""
    return x.astype(np.float16).astype(np.float64)


def _norm(x: Array, weight: Array) -> Array:
    scaled: Array = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + EPSILON) * weight
    return scaled


def _rope(x: Array) -> Array:
    """Rotates neighbours, as llama's architecture does: [tokens, heads, size]."""
    size = x.shape[2]
    angles = np.arange(len(x))[:, None] * ROPE_BASE ** (-np.arange(0, size, 2) / size)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = np.stack([even * cosine - odd * sine, even * sine + odd * cosine], axis=-1)
    return turned.reshape(x.shape)


def _softmax(x: Array) -> Array:
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def _silu(x: Array) -> Array:
    smooth: Array = x / (1 + np.exp(-x))
    return smooth
