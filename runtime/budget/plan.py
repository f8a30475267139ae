"""A plan of memory: what a model will take in a configuration, against what the machine gives.

    plan = plan_memory(open_model(path), config, this_machine())
    plan.check()  # DoesNotFit, with the breakdown

Everything comes from the header, so that a model may be planned before its weights are fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.budget.compute import compute_size, output_size
from runtime.budget.device import DevicePlan, split_layers
from runtime.budget.kv import cache_size
from runtime.budget.process import process_size
from runtime.budget.shape import read_shape
from runtime.budget.weights import weight_size
from runtime.engine.config import EngineConfig
from runtime.errors import DoesNotFit
from runtime.gguf import GgufHeader, GgufModel
from runtime.hardware.machine import Machine
from runtime.hardware.memory import MemoryReport
from runtime.units import format_bytes

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes on the host at the worker's peak, and what each device holds.

    ``reclaimable`` is the part of ``weights`` that is mapped file pages: the system may drop them under
    pressure and read them again, at the price of speed. All else is the worker's own.
    """

    config: EngineConfig
    weights: int
    kv_cache: int
    compute: int
    output: int
    process: int
    reclaimable: int
    trained_context: int
    memory: MemoryReport
    devices: tuple[DevicePlan, ...] = ()

    @property
    def total(self) -> int:
        """Predicted peak of the worker's resident memory."""
        return self.weights + self.kv_cache + self.compute + self.output + self.process

    @property
    def available(self) -> int:
        """What the machine gives."""
        return self.memory.available

    @property
    def fits(self) -> bool:
        return self.total <= self.available and all(device.fits for device in self.devices)

    def breakdown(self) -> tuple[tuple[str, int], ...]:
        """Name and bytes of each part on the host."""
        return (
            ("weights", self.weights),
            ("KV cache", self.kv_cache),
            ("compute buffers", self.compute),
            ("output buffer", self.output),
            ("process", self.process),
        )

    def check(self) -> None:
        """Raise DoesNotFit, with the whole breakdown and what to do, unless the plan fits."""
        if self.fits:
            return
        crowded = next((device for device in self.devices if not device.fits), None)
        if self.total <= self.available and crowded is not None:
            raise DoesNotFit(
                f"{crowded.name} would have to hold {format_bytes(crowded.total)}, and has "
                f"{format_bytes(crowded.available)} free: {crowded.layers} layers of "
                f"{format_bytes(crowded.weights)}, KV cache "
                f"{format_bytes(crowded.kv_cache)}, compute buffers {format_bytes(crowded.compute)}. "
                "Use fewer --gpu-layers, a shorter --ctx, or --force.",
                needed_bytes=crowded.total,
                available_bytes=crowded.available,
            )
        config = self.config
        parts = "\n".join(f"  {name:<16}{format_bytes(size):>12}" for name, size in self.breakdown())
        slots = f" x {config.slots} slots" if config.slots > 1 else ""
        margin = self.memory.margin
        less = f", less {format_bytes(margin)} that stay free" if margin else ""
        raise DoesNotFit(
            f"the model needs {format_bytes(self.total)}, and {format_bytes(self.available)} are available.\n"
            f"{parts}\n"
            f"for a context of {config.context_tokens} tokens{slots} with {config.kv_type} keys and values.\n"
            f"What limits it: {self.memory.binding.name}, {format_bytes(self.memory.binding.bytes)} "
            f"({self.memory.binding.detail}){less}.\n"
            f"{self._advice()}",
            needed_bytes=self.total,
            available_bytes=self.available,
        )

    def _advice(self) -> str:
        """What helps: what the weights and the process leave decides."""
        own = self.total - self.weights - self.kv_cache
        if own >= self.available:
            return (
                "No quantization and no context is small enough: "
                f"{format_bytes(own)} of this are the process and its buffers. "
                "Close other programs, or raise --ram; --force loads it all the same."
            )
        ways = []
        if self.weights + own < self.available:
            ways.append("a shorter context (--ctx)")
            if self.config.kv_type == "f16":
                ways.append("--kv q8_0 or q4_0")
        room = self.available - own - self.kv_cache
        if room > 0:
            ways.append(f"a quantization of the model with at most {format_bytes(room)} of weights")
        else:
            left = format_bytes(self.available - own)
            ways.append(f"a smaller quantization and a shorter context, {left} together")
        return f"Try {', or '.join(ways)}; --force loads it all the same."


def plan_memory(
    model: GgufModel | GgufHeader | Sequence[GgufHeader], config: EngineConfig, machine: Machine
) -> MemoryPlan:
    """Plan ``model`` (its files' headers, the first with the metadata) for ``config`` on ``machine``.

    ``config.gpu_layers`` counts only where the machine has devices. Raises GgufError where a hyperparameter
    is missing, and InvalidRequest where the KV type does not fit the model's heads.
    """
    return plan_headers(headers_of(model), config, machine)


def plan_headers(headers: Sequence[GgufHeader], config: EngineConfig, machine: Machine) -> MemoryPlan:
    """:func:`plan_memory` for headers."""
    shape = read_shape(headers[0])
    cache = cache_size(shape, config)
    compute = compute_size(shape, config, cache, config.threads or machine.cores.physical)
    on_device = config.gpu_layers != 0 and bool(machine.devices)
    weights = weight_size(
        headers, len(shape.layers), machine.features, mapped=config.mmap, packs=machine.packs
    )
    split = split_layers(
        config.gpu_layers,
        machine.devices,
        weights=weights.layers,
        output=weights.output,
        caches=cache.layers,
        compute=compute.graph,
        host_compute=2 * config.ubatch_tokens * shape.embedding * 4 + MIB,
    )
    host_weights = weights.host + split.weights if on_device else weights.bytes
    return MemoryPlan(
        config=config,
        weights=host_weights,
        kv_cache=split.kv_cache,
        compute=split.compute + compute.work,
        output=output_size(shape, config),
        process=process_size(headers[0], shape, config, cache),
        reclaimable=min(weights.mapped, host_weights),
        trained_context=shape.trained_context,
        memory=machine.memory,
        devices=split.devices,
    )


def headers_of(model: GgufModel | GgufHeader | Sequence[GgufHeader]) -> tuple[GgufHeader, ...]:
    """The headers of a model's files."""
    if isinstance(model, GgufModel):
        return model.headers
    return (model,) if isinstance(model, GgufHeader) else tuple(model)
