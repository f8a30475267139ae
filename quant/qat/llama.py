"""The forward pass of a Llama, a Qwen 2 or a Qwen 3 in torch, from tensors under their names in a GGUF.

It serves training only; llama.cpp computes everything that is judged or served. Weights come in the type
that products are computed in; the stream between the layers, norms and positions are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch.nn import functional

from quant.qat.shape import Shape

Tensor: TypeAlias = Any
Weights: TypeAlias = Mapping[str, Any]
"""Name in the file -> tensor: matrices [rows, columns], norms and biases [n]."""
Watch: TypeAlias = Callable[[str, Any], Any]
"""(name, values) -> what is computed with in their place. ``blk.0.ffn_up``: the input of that matrix, [batch,
tokens, columns]; ``blk.0.k`` and ``blk.0.v``: what the KV cache holds, [batch, heads, tokens, head]."""


def as_it_is(_name: str, values: Tensor) -> Tensor:
    """Watches nothing."""
    return values


def rotary(shape: Shape, count: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Cosine and sine of ``count`` positions, float32 [count, rotated / 2]."""
    exponents = torch.arange(0, shape.rotated, 2, dtype=torch.float64, device=device) / shape.rotated
    positions = torch.arange(count, dtype=torch.float64, device=device)
    angles = torch.outer(positions, shape.rope_base**-exponents)
    return angles.cos().float(), angles.sin().float()


def embed(weights: Weights, tokens: Tensor) -> Tensor:
    """[batch, tokens] -> float32 [batch, tokens, width]."""
    return functional.embedding(tokens, weights["token_embd.weight"]).float()


def layer(
    shape: Shape,
    weights: Weights,
    number: int,
    x: Tensor,
    positions: tuple[Tensor, Tensor],
    watch: Watch = as_it_is,
) -> Tensor:
    """One layer: float32 [batch, tokens, width] -> the same."""

    def named(name: str) -> Tensor:
        return weights[f"blk.{number}.{name}"]

    def project(name: str, value: Tensor) -> Tensor:
        matrix = named(f"{name}.weight")
        value = watch(f"blk.{number}.{name}", value)
        return functional.linear(value.to(matrix.dtype), matrix, _bias(weights, number, name, matrix.dtype))

    def norm(name: str, value: Tensor) -> Tensor:
        return rms_norm(value, named(f"{name}.weight"), shape.epsilon)

    batch, count, _ = x.shape
    normed = norm("attn_norm", x)

    def heads(name: str, rotate: bool) -> Tensor:
        value = project(name, normed).view(batch, count, -1, shape.head).transpose(1, 2)
        if not rotate:
            return value
        value = value.float()
        if f"blk.{number}.{name}_norm.weight" in weights:
            value = norm(f"{name}_norm", value)
        return _rotate(shape, value, positions)

    value = watch(f"blk.{number}.v", heads("attn_v", rotate=False))
    key = watch(f"blk.{number}.k", heads("attn_k", rotate=True).to(value.dtype))
    attended = functional.scaled_dot_product_attention(
        heads("attn_q", rotate=True).to(value.dtype),
        key.repeat_interleave(shape.heads // shape.kv_heads, 1),
        value.repeat_interleave(shape.heads // shape.kv_heads, 1),
        is_causal=True,
    )
    x = x + project("attn_output", attended.transpose(1, 2).reshape(batch, count, -1)).float()
    normed = norm("ffn_norm", x)
    gated = functional.silu(project("ffn_gate", normed)) * project("ffn_up", normed)
    return x + project("ffn_down", gated).float()


def final(shape: Shape, weights: Weights, x: Tensor) -> Tensor:
    """What the output matrix multiplies: float32 [batch, tokens, width]."""
    return rms_norm(x, weights["output_norm.weight"], shape.epsilon)


def hidden(shape: Shape, weights: Weights, tokens: Tensor, watch: Watch = as_it_is) -> Tensor:
    """[batch, tokens] -> what the output matrix multiplies."""
    x = embed(weights, tokens)
    positions = rotary(shape, tokens.shape[1], x.device)
    for number in range(shape.layers):
        x = layer(shape, weights, number, x, positions, watch)
    return final(shape, weights, x)


def output_name(weights: Weights) -> str:
    """The matrix that makes logits: its own, or the embeddings."""
    return "output.weight" if "output.weight" in weights else "token_embd.weight"


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return functional.rms_norm(x, (x.shape[-1],), weight, epsilon)


def _rotate(shape: Shape, x: Tensor, positions: tuple[Tensor, Tensor]) -> Tensor:
    """Turns pairs of [batch, heads, tokens, head] by their position's angles."""
    cosine, sine = positions
    turned, rest = x[..., : shape.rotated], x[..., shape.rotated :]
    if shape.neighbours:
        first, second = turned[..., 0::2], turned[..., 1::2]
    else:
        first, second = turned.chunk(2, dim=-1)
    pair = (first * cosine - second * sine, first * sine + second * cosine)
    turned = torch.stack(pair, dim=-1).flatten(-2) if shape.neighbours else torch.cat(pair, dim=-1)
    return torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned


def _bias(weights: Weights, number: int, name: str, dtype: Any) -> Tensor | None:
    found = weights.get(f"blk.{number}.{name}.bias")
    return None if found is None else found.to(dtype)
