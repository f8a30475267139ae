"""How a model is loaded for the endpoint: with several slots, within the memory."""

from __future__ import annotations

import msgspec

from app.settings import Settings
from quant.allocation.running import read_running
from runtime.budget import MemoryPlan, best_mmap, plan_memory, suggest_config
from runtime.engine.config import EngineConfig
from runtime.gguf import GgufModel
from runtime.hardware import Machine

DEFAULT_SLOTS = 4
GENEROUS_CONTEXT = 8192
"""Agents and editors send long prompts: this much where half of the memory holds it."""


def plan_serving(
    model: GgufModel, settings: Settings, machine: Machine, *, slots: int | None, gpu_layers: int = 0
) -> MemoryPlan:
    """The plan for a model on a machine that holds no other.

    Without ``slots`` there are 4, or fewer before the context becomes shorter than 4096, or than the one that
    the file was fitted for. What does not fit in any form is planned all the same: ``check`` of the plan then
    raises DoesNotFit.
    """
    asked = EngineConfig(
        model_paths=tuple(str(path) for path in model.paths),
        threads=settings.threads,
        kv_type=settings.kv or "f16",
        gpu_layers=gpu_layers,
    )
    choices = [slots] if slots is not None else [DEFAULT_SLOTS, 2, 1]
    if running := read_running(model.header):
        fitted = msgspec.structs.replace(
            asked,
            kv_type=settings.kv or running.kv_type,
            ubatch_tokens=running.batch_tokens,
            context_tokens=settings.context or running.context_tokens,
            mmap=best_mmap(model.headers, machine.features, machine.packs),
        )
        for count in choices:
            kept = plan_memory(model, msgspec.structs.replace(fitted, slots=count), machine)
            if kept.fits:
                return kept
    plan = None
    for count in choices:
        config = msgspec.structs.replace(asked, slots=count)
        plan = plan_memory(model, suggest_config(model, machine, config, context=settings.context), machine)
        wanted = settings.context or min(plan.trained_context or 4096, 4096)
        if plan.fits and plan.config.context_tokens >= wanted:
            break
    assert plan is not None
    if settings.context is None and plan.fits and plan.trained_context >= GENEROUS_CONTEXT:
        longer = msgspec.structs.replace(plan.config, context_tokens=GENEROUS_CONTEXT)
        generous = plan_memory(model, longer, machine)
        if generous.fits and generous.total <= generous.available // 2:
            return generous
    return plan
