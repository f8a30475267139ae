"""How much memory a model will take, before it is loaded: from its header and the machine alone."""

from __future__ import annotations

from runtime.budget.device import DevicePlan
from runtime.budget.plan import MemoryPlan, plan_memory
from runtime.budget.suggest import auto_gpu_layers, suggest_config, suggest_context
from runtime.budget.weights import best_mmap

__all__ = [
    "DevicePlan",
    "MemoryPlan",
    "auto_gpu_layers",
    "best_mmap",
    "plan_memory",
    "suggest_config",
    "suggest_context",
]
