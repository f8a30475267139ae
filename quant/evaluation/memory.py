"""How scoring a model is set up, and the memory that it takes; before any of it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.budget import best_mmap, plan_memory
from runtime.budget.compute import score_size
from runtime.budget.shape import read_shape
from runtime.engine.config import EngineConfig, KvType
from runtime.errors import DoesNotFit, InvalidRequest
from runtime.gguf import GgufModel
from runtime.hardware.machine import Machine
from runtime.units import format_bytes

MOST_PASS_TOKENS = 512
LEAST_SLICE, MOST_SLICE = 32, 128
SLICE_BYTES = 64 << 20
"""Logits of a slice of positions: large enough for a fast matrix product, small beside the weights."""
F32 = 4
SCORING_ROWS = 8
"""Rows of the vocabulary's length that the comparison works on, for each model."""


@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """One model of an evaluation; ``bytes`` is the predicted peak of a process that scores it alone.

    ``reclaimable`` of them are mapped weights. Without room for these the model is read from the disk again
    in every pass: slower, but a pass is a whole chunk.
    """

    config: EngineConfig
    slice_tokens: int
    bytes: int
    reclaimable: int = 0

    @property
    def least_bytes(self) -> int:
        """What it takes in any case."""
        return self.bytes - self.reclaimable


def plan_scoring(
    model: GgufModel, context: int, threads: int, machine: Machine, kv_type: KvType = "f16"
) -> ScoringPlan:
    """How to score ``model`` in chunks of ``context`` tokens, with keys and values kept as ``kv_type``.

    Raises GgufError where a hyperparameter is missing, InvalidRequest where the model was trained for less.
    """
    shape = read_shape(model.header)
    if 0 < shape.trained_context < context:
        raise InvalidRequest(
            f"{model.paths[0]} was trained for {shape.trained_context:,} tokens of context, and {context:,} "
            f"were asked for: use --ctx {shape.trained_context}",
            field="context",
        )
    config = EngineConfig(
        model_paths=tuple(str(path) for path in model.paths),
        context_tokens=context,
        threads=threads or machine.cores.physical,
        ubatch_tokens=min(MOST_PASS_TOKENS, context),
        kv_type=kv_type,
        mmap=best_mmap(model.headers, machine.features, machine.packs),
    )
    row_bytes = shape.vocabulary * F32
    slice_tokens = max(LEAST_SLICE, min(MOST_SLICE, SLICE_BYTES // max(1, row_bytes)))
    plan = plan_memory(model, config, machine)
    logits = (2 * slice_tokens + SCORING_ROWS) * row_bytes
    return ScoringPlan(
        config, slice_tokens, plan.total + score_size(model.header, config) + logits, plan.reclaimable
    )


def fit_together(plans: Sequence[ScoringPlan], available: int) -> bool:
    """Whether all models fit at once.

    Raises DoesNotFit where one does not even fit alone, without its weights if these are mapped.
    """
    largest = max(plan.least_bytes for plan in plans)
    if largest > available:
        raise DoesNotFit(
            f"scoring a model takes {format_bytes(largest)}, and {format_bytes(available)} are available: "
            "close other programs, or judge in shorter chunks",
            needed_bytes=largest,
            available_bytes=available,
        )
    return sum(plan.bytes for plan in plans) <= available
