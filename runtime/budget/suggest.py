"""What to run a model with when the person does not say: the largest that fits, within reason."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from runtime.budget.plan import headers_of, plan_headers
from runtime.budget.weights import best_mmap
from runtime.engine.config import EngineConfig
from runtime.gguf import GgufHeader, GgufModel
from runtime.hardware.machine import Machine

SHORTEST_CONTEXT = 512
DEFAULT_CONTEXT = 4096
SMALLER_BATCHES = (512, 256, 128, 64)


def context_steps(trained: int, *, shortest: int = SHORTEST_CONTEXT) -> tuple[int, ...]:
    """Lengths to choose from, ascending: powers of two and one step between, up to the trained length."""
    steps = []
    step = shortest
    while step < trained:
        steps += [step, step + step // 2]
        step *= 2
    return (*(length for length in steps if length < trained), trained) if trained > 0 else ()


def suggest_context(
    model: GgufModel | GgufHeader | Sequence[GgufHeader],
    machine: Machine,
    config: EngineConfig | None = None,
    *,
    at_most: int | None = None,
) -> int:
    """The longest context that fits with the rest of ``config``; 0 if none does.

    Never beyond the length that the model was trained for, nor ``at_most``.
    """
    headers = headers_of(model)
    config = config or EngineConfig(model_paths=tuple(str(header.path) for header in headers))
    trained = plan_headers(headers, config, machine).trained_context or DEFAULT_CONTEXT
    longest = min(trained, at_most) if at_most else trained
    fitting = 0
    for length in context_steps(longest):
        if not plan_headers(headers, _replace(config, context_tokens=length), machine).fits:
            break
        fitting = length
    return fitting


def suggest_config(
    model: GgufModel | GgufHeader | Sequence[GgufHeader],
    machine: Machine,
    config: EngineConfig,
    *,
    context: int | None = None,
) -> EngineConfig:
    """``config`` with what it leaves open chosen: mapping, context (``None`` = choose), size of a batch.

    The context is the trained one, at most 4096, or less where that does not fit; a batch is made smaller
    before a context is. What does not fit in any form comes back in its smallest form: ``plan_memory(...)
    .check()`` then says so.
    """
    headers = headers_of(model)
    config = _replace(config, mmap=config.mmap and best_mmap(headers, machine.features, machine.packs))
    wanted = context or min(
        plan_headers(headers, config, machine).trained_context or DEFAULT_CONTEXT, DEFAULT_CONTEXT
    )
    batches = [size for size in SMALLER_BATCHES if size < config.ubatch_tokens]
    for batch in (config.ubatch_tokens, *batches):
        chosen = _replace(config, context_tokens=wanted, ubatch_tokens=batch)
        if plan_headers(headers, chosen, machine).fits:
            return chosen
    if context is None:
        shorter = suggest_context(headers, machine, chosen, at_most=wanted)
        chosen = _replace(chosen, context_tokens=shorter or min(wanted, SHORTEST_CONTEXT))
    return chosen


def auto_gpu_layers(
    model: GgufModel | GgufHeader | Sequence[GgufHeader], config: EngineConfig, machine: Machine
) -> int:
    """The most layers (the output counts as one) that the machine's devices can hold; 0 without devices."""
    if not machine.devices:
        return 0
    headers = headers_of(model)
    everything = plan_headers(headers, _replace(config, gpu_layers=-1), machine)
    for layers in range(sum(device.layers for device in everything.devices), 0, -1):
        plan = plan_headers(headers, _replace(config, gpu_layers=layers), machine)
        if all(device.fits for device in plan.devices):
            return layers
    return 0


def _replace(config: EngineConfig, **changes: object) -> EngineConfig:
    return msgspec.structs.replace(config, **changes)
