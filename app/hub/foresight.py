"""How good and how fast a model would be here, from its hyperparameters alone.

An outline of a model (:mod:`app.hub.sketch`) gets the matrices that a transformer of its widths has, all of
its layers folded into :data:`GROUPS`, and the planner of ``--fit-ram`` is asked. What a mixture of formats
costs is a sum over layers (:mod:`quant.allocation.sensitivity`): folding them changes the answer by little,
and takes a twentieth of the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Final

from quant.allocation.fit import Fit, planner_for
from quant.allocation.forecast import forecast
from quant.allocation.joint import JointPlan, Model
from quant.allocation.speed import Speeds
from runtime.gguf import GgufHeader, TensorInfo
from runtime.gguf.ggml_types import GGML_TYPES
from runtime.hardware import Machine

GROUPS: Final = 3
F16: Final = GGML_TYPES[1]
VOCABULARY: Final = 32_000
"""Where nothing is said of it."""


@dataclass(frozen=True)
class Foresight:
    """What localq would make of a model in this machine's memory."""

    file_bytes: int
    bits_per_weight: float
    context_tokens: int
    peak_bytes: int
    nats: float
    """Mean divergence from the original."""
    tokens_per_second: float


def foresee(
    sketch: GgufHeader,
    parameters: int | None,
    machine: Machine,
    speeds: Speeds,
    *,
    context: int | None = None,
    file_bytes: int | None = None,
) -> Foresight | None:
    """The best that fits, with a file of at most ``file_bytes``; None where nothing does, or too little is
    known of the model. ``parameters`` is the number of its weights, where that is told."""
    header = with_matrices(sketch, parameters)
    if header is None:
        return None
    layers = header.hyper_int("block_count") or 1
    words = bool(machine.packs)  # what localq's kernels do not multiply here is not made
    measured = forecast(header.tensors, header.alignment, words=words).scaled(layers / min(layers, GROUPS))
    planner = planner_for(Model((header,), measured), Fit(prefer="quality"), machine, speeds=speeds)
    plan = planner.best(context=context, file_bytes=file_bytes)
    return None if plan is None else _foresight(plan, speeds)


def _foresight(plan: JointPlan, speeds: Speeds) -> Foresight:
    return Foresight(
        file_bytes=plan.file_bytes,
        bits_per_weight=plan.bits_per_weight,
        context_tokens=plan.config.context_tokens,
        peak_bytes=plan.memory.total,
        nats=plan.predicted_kl,
        tokens_per_second=plan.tokens_per_second(speeds),
    )


def with_matrices(sketch: GgufHeader, parameters: int | None) -> GgufHeader | None:
    """``sketch`` with matrices in F16, so many weights in all; None where its widths are not told."""
    layers = sketch.hyper_int("block_count", 0) or 0
    embedding = sketch.hyper_int("embedding_length", 0) or 0
    heads = sketch.hyper_int("attention.head_count", 0) or 0
    if not layers or not embedding or not heads:
        return None
    kv_heads = sketch.hyper_int("attention.head_count_kv") or heads
    head = sketch.hyper_int("attention.key_length") or embedding // heads
    groups = min(layers, GROUPS)
    sizes = [layers // groups + (group < layers % groups) for group in range(groups)]
    vocabulary = _vocabulary(sketch)
    rest = embedding * vocabulary + layers * (2 * embedding * heads * head + 2 * embedding * kv_heads * head)
    width = sketch.hyper_int("feed_forward_length", 0) or 4 * embedding
    if parameters is not None:  # what the other matrices leave, whatever the feed-forward layers look like
        width = max(1, (parameters - rest) // (3 * embedding * layers))
    used, experts = sketch.hyper_int("expert_used_count", 0) or 0, sketch.hyper_int("expert_count", 0) or 0
    routed = 0 < used < experts

    def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "token_embd", (embedding, vocabulary)
        for group, count in enumerate(sizes):
            block = f"blk.{group}."
            yield f"{block}attn_q", (embedding, heads * head * count)
            yield f"{block}attn_k", (embedding, kv_heads * head * count)
            yield f"{block}attn_v", (embedding, kv_heads * head * count)
            yield f"{block}attn_output", (heads * head, embedding * count)
            if routed:
                one = max(1, width // experts)
                columns = max(32, one - one % 32)
                yield f"{block}ffn_gate_exps", (embedding, one * count, experts)
                yield f"{block}ffn_up_exps", (embedding, one * count, experts)
                yield f"{block}ffn_down_exps", (columns, embedding * count, experts)
            else:
                yield f"{block}ffn_gate", (embedding, width * count)
                yield f"{block}ffn_up", (embedding, width * count)
                yield f"{block}ffn_down", (max(256, width - width % 256), embedding * count)

    tensors, offset = [], 0
    for name, shape in shapes():
        nbytes = F16.row_bytes(prod(shape))
        tensors.append(TensorInfo(f"{name}.weight", F16, shape, offset, nbytes))
        offset += nbytes
    return replace(sketch, tensors=tuple(tensors), file_size=offset)


def _vocabulary(sketch: GgufHeader) -> int:
    told = sketch.hyper_int("vocab_size")
    if told:
        return told
    tokens = sketch.metadata.get("tokenizer.ggml.tokens")
    return getattr(tokens, "count", 0) or VOCABULARY
