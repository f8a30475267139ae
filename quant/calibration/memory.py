"""The memory that calibration takes, from the model's header."""

from __future__ import annotations

from runtime.budget import plan_memory
from runtime.budget.compute import score_size
from runtime.budget.shape import read_shape
from runtime.engine.chunks import batch_chunks
from runtime.engine.config import EngineConfig
from runtime.gguf import GgufModel
from runtime.hardware.machine import Machine

F32 = 4


def observing_bytes(
    model: GgufModel, *, chunk_tokens: int, threads: int, sum_bytes: int, machine: Machine
) -> int:
    """A bound of the calibrating process's peak, without the model's mapped pages, which may be dropped.

    ``sum_bytes`` are those of one pass's sums. The logits of a whole batch have been given back before there
    are sums. Three models took 0.6 to 0.9 of it. Raises GgufError where a hyperparameter is missing.
    """
    shape = read_shape(model.header)
    chunks = batch_chunks(shape.vocabulary, chunk_tokens)
    config = EngineConfig(
        model_paths=tuple(str(path) for path in model.paths),
        context_tokens=chunk_tokens,
        slots=chunks,
        threads=threads,
        ubatch_tokens=chunks * chunk_tokens,
    )
    plan = plan_memory(model, config, machine)
    logits = chunks * chunk_tokens * shape.vocabulary * F32
    return plan.total - plan.weights + score_size(model.header, config) + max(logits, sum_bytes)
