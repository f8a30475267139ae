"""Which layers go to which device, and what each device then holds. Pure: the devices' memory is given."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from runtime.hardware.machine import Device

DEVICE_MARGIN = 512 << 20
"""Left free on a device: its driver's context, kernels and scratch space are in no plan."""


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """What one device holds; ``layers`` counts the output as one."""

    name: str
    layers: int
    weights: int
    kv_cache: int
    compute: int
    available: int

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.compute

    @property
    def fits(self) -> bool:
        return self.total <= self.available


@dataclass(frozen=True, slots=True)
class Split:
    """What stays on the host, and what each device takes over."""

    weights: int
    kv_cache: int
    compute: int
    devices: tuple[DevicePlan, ...]


def split_layers(
    gpu_layers: int,
    devices: Sequence[Device],
    *,
    weights: Sequence[int],
    output: int,
    caches: Sequence[int],
    compute: int,
    host_compute: int,
) -> Split:
    """Give the last ``gpu_layers`` layers (-1 = all) to the devices, in proportion to their free memory.

    ``weights`` and ``caches`` are bytes for each layer. The output counts as a layer behind the last and goes
    first, as in llama.cpp. Every device that holds a layer needs ``compute`` for its part of the graph; the
    host needs ``host_compute`` once nothing but the token embeddings is left to it.
    """
    parts = [*weights, output]
    kept = [*caches, 0]
    count = len(parts)
    moved = count if gpu_layers < 0 else min(gpu_layers, count)
    if not devices or moved == 0:
        return Split(sum(parts), sum(kept), compute, ())
    first = count - moved
    bounds = list(accumulate(max(1, device.free) for device in devices))
    owner = [bisect_right(bounds, step * bounds[-1] / moved) for step in range(moved)]
    plans = []
    for index, device in enumerate(devices):
        owned = [first + step for step in range(moved) if owner[step] == index]
        plans.append(
            DevicePlan(
                name=device.name,
                layers=len(owned),
                weights=sum(parts[layer] for layer in owned),
                kv_cache=sum(kept[layer] for layer in owned),
                compute=compute if owned else 0,
                available=max(0, device.free - DEVICE_MARGIN),
            )
        )
    host = compute if first > 0 else min(compute, host_compute)
    return Split(sum(parts[:first]), sum(kept[:first]), host, tuple(plans))
