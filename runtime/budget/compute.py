"""Bytes of the compute buffers: an upper estimate of what ggml's graph allocator reserves for one pass.

A pass lays activations (tokens x width, f32) beside the attention masks. Its peak is in one of three places:
the feed-forward network or the experts, the recurrent layer, or the logits. How many activations of each
width live at once was read off llama.cpp's own reservations for 27 models (docs/memory.md); the estimate
exceeds them by 0 to 30 % and does not fall below.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.budget.kv import CELL_PADDING, CacheSize, round_up
from runtime.budget.shape import Shape
from runtime.engine.config import EngineConfig
from runtime.gguf import GgufHeader

F32 = 4
MASK_ELEMENT = 2
ATTENTION_TILE = 64
TILE_SLOT = 512 << 10
SLACK = 1 << 20
WIDEST_DOT_TYPE = 2.0
"""Bytes an element of activations rounded for a matrix product: f16 for f16 weights, less for all others."""


@dataclass(frozen=True, slots=True)
class ComputeSize:
    """``graph`` lies where the layers do; ``work`` is the threads' scratch space on the host."""

    graph: int
    work: int


def compute_size(shape: Shape, config: EngineConfig, cache: CacheSize, threads: int) -> ComputeSize:
    """The compute buffers of a model for a configuration, with ``threads`` threads."""
    slots = max(1, config.slots)
    tokens = round_up(min(config.ubatch_tokens, slots * cache.cells), slots)
    outputs = min(tokens, slots)
    masks = 0
    if shape.attends:
        masks = tokens * MASK_ELEMENT * (cache.cells + cache.window_cells)
    rotated = config.kv_type != "f16" and not shape.latent
    widest = max(
        _feed_forward(shape, rotated=rotated),
        _experts(shape, rotated=rotated),
    )
    per_token = F32 * (widest + _standing(shape))
    state = slots * max((layer.state for layer in shape.layers), default=0) * F32
    recurrent = tokens * F32 * (_recurrent(shape) + _standing(shape)) + _states_alive(shape) * state
    logits = outputs * F32 * (shape.vocabulary + 5 * shape.embedding)
    graph = masks + max(tokens * per_token, recurrent, logits) + SLACK
    return ComputeSize(round_up(graph, 4096), _work(shape, tokens, threads))


def output_size(shape: Shape, config: EngineConfig) -> int:
    """The buffer that logits are copied to, one row a slot."""
    return max(1, config.slots) * shape.vocabulary * F32


def score_size(header: GgufHeader, config: EngineConfig) -> int:
    """The attention scores of a pass without flash attention: one for each pair of tokens and head, twice."""
    heads = max(header.per_layer("attention.head_count", 0) or (0,))
    cells = round_up(config.context_tokens, CELL_PADDING)
    return 2 * heads * config.ubatch_tokens * cells * F32


def _feed_forward(shape: Shape, *, rotated: bool) -> int:
    """Gate, up and their product, on top of the residual, its norm, and the hole that the queries left.

    Quantized keys are rotated first (``rotated``), and so are the queries: a second hole.
    """
    extra = shape.query * (2 if rotated else 1)
    return shape.feed_forward_parts * shape.feed_forward + 3 * shape.embedding + extra


def _experts(shape: Shape, *, rotated: bool) -> int:
    """The chosen experts' activations at once: inside, or leaving, weighted."""
    inside = 3 * shape.experts_used * shape.expert + shape.query * (2 if rotated else 1)
    leaving = shape.experts_used * (shape.expert + 2 * shape.embedding)
    return max(inside, leaving) + 3 * shape.embedding if shape.experts_used else 0


def _recurrent(shape: Shape) -> int:
    match shape.recurrence:
        case "mamba":
            return 6 * shape.inner + 2 * shape.embedding
        case "mamba2":
            return shape.projected + 2 * shape.convolved + 2 * shape.inner + 2 * shape.embedding
        case "delta" | "linear":
            return 4 * (shape.convolved or 3 * shape.query) + 2 * shape.embedding
        case "wkv":
            return 20 * shape.embedding
        case _:
            return 0


def _states_alive(shape: Shape) -> int:
    return 1 if shape.recurrence == "mamba2" else 2


def _standing(shape: Shape) -> int:
    """What stands through the whole pass: the layers' own inputs, and more than one residual stream."""
    extra = shape.residual_streams * shape.embedding if shape.residual_streams > 1 else 0
    return 2 * shape.per_layer_input + extra


def _work(shape: Shape, tokens: int, threads: int) -> int:
    """Threads' scratch: the input of the widest matrix product in its dot type, and attention's tiles."""
    widest = max(
        shape.embedding,
        shape.query,
        shape.feed_forward,
        shape.inner,
        shape.experts_used * max(shape.expert, shape.embedding),
    )
    key, value = shape.head
    tile = F32 * ATTENTION_TILE * (2 * key + 2 * value + 2 * ATTENTION_TILE)
    return int(tokens * widest * WIDEST_DOT_TYPE) + threads * max(tile, TILE_SLOT)
