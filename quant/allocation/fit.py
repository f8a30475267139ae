"""The best way to run a model in the memory of a machine, as a person asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from quant.allocation.joint import JointPlan, Model
from quant.allocation.learned import Learned
from quant.allocation.planner import Planner, Prefer, with_available
from quant.allocation.speed import Speeds
from quant.errors import CannotEncode
from runtime.engine.config import KvType
from runtime.errors import DoesNotFit
from runtime.hardware.machine import Machine
from runtime.units import format_bytes

USEFUL_NATS: Final = 1.0
"""A model that is further from its original than this is of no use."""


@dataclass(frozen=True, slots=True)
class Fit:
    """All that running a model takes within a memory; what is None is left to the plan."""

    memory_bytes: int | None = None
    """Without it, what the machine has available when the plan is made."""
    keep_free_bytes: int = 0
    """Of what the machine has available, for other programs."""
    context: int | None = None
    kv_type: KvType | None = None
    prefer: Prefer = "balanced"
    learned: Learned = field(default_factory=Learned)
    """What earlier runs taught of the model's architecture."""

    def deciding(self) -> list[Any]:
        """What the plan depends on beside model and machine: of JSON types."""
        return [self.memory_bytes, self.keep_free_bytes, self.context, self.kv_type, self.prefer]


def plan_fit(
    model: Model, fit: Fit, machine: Machine, *, threads: int = 0, speeds: Speeds | None = None
) -> JointPlan:
    """The plan for ``model`` on ``machine``, whose memory ``fit.memory_bytes`` bounds already.

    Raises DoesNotFit, with both numbers, where the smallest formats take more than there is, or where what
    fits is so far from the original that it is of no use; GgufError for a header without a hyperparameter.
    """
    planner = planner_for(model, fit, machine, threads=threads, speeds=speeds)
    machine = planner.machine
    plan = planner.best(context=fit.context, kv_type=fit.kv_type)
    if plan is None:
        least = planner.least(context=fit.context, kv_type=fit.kv_type)
        parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in least.memory.breakdown())
        raise DoesNotFit(
            f"even in the smallest formats this model needs {format_bytes(least.memory.total)} ({parts}) "
            f"for a context of {least.config.context_tokens:,} tokens; "
            f"{format_bytes(machine.memory.available)} are available (limited by "
            f"{machine.memory.binding.name}); take a smaller model",
            needed_bytes=least.memory.total,
            available_bytes=machine.memory.available,
        )
    if plan.predicted_kl > USEFUL_NATS:
        needed = least_useful_bytes(planner, fit)
        raise DoesNotFit(
            f"within {format_bytes(machine.memory.available)} only {plan.bits_per_weight:.1f} bits a weight "
            f"fit, and at {plan.predicted_kl:.1f} nats from its original this model is of no use; it needs "
            f"{format_bytes(needed)}, or take a smaller model",
            needed_bytes=needed,
            available_bytes=machine.memory.available,
        )
    return plan


def planner_for(
    model: Model, fit: Fit, machine: Machine, *, threads: int = 0, speeds: Speeds | None = None
) -> Planner:
    """Plans of ``model``, with what is to stay free taken off and what was learned put in.

    Raises CannotEncode for a model with matrices in LT formats: what they take is not in its table.
    """
    if any(header.packed for header in model.headers):
        raise CannotEncode(
            f"{model.headers[0].path.name} holds matrices in LT formats: it is a result, not an original to "
            "plan with; give the original, or export it first: localq export MODEL --to gguf:f16"
        )
    if fit.keep_free_bytes:
        machine = with_available(machine, machine.memory.available - fit.keep_free_bytes)
    if fit.learned.peak > 1:  # such models took more than was foreseen
        machine = with_available(machine, int(machine.memory.available / fit.learned.peak))
    model = replace(model, measured=model.measured.scaled(fit.learned.nats))
    return Planner(model, machine, threads=threads, speeds=speeds, prefer=fit.prefer)


def least_useful_bytes(planner: Planner, fit: Fit) -> int:
    """The least memory in which the model is of use, to half a percent."""
    low, high = planner.machine.memory.available, planner.most_bytes
    while high - low > high // 200:
        middle = (low + high) // 2
        plan = planner.within(middle).best(context=fit.context, kv_type=fit.kv_type)
        if plan is None or plan.predicted_kl > USEFUL_NATS:
            low = middle
        else:
            high = middle
    return high
