"""What a plan needs to know of a machine, gathered once."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.hardware.cores import CoreReport, usable_cores
from runtime.hardware.memory import MemoryReport, available_memory


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator's memory in bytes. Numbers are given: this process does not talk to devices."""

    name: str
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Machine:
    """Memory and cores that are this process's to use, the processor's features, and its devices."""

    memory: MemoryReport
    cores: CoreReport
    features: frozenset[str]
    devices: tuple[Device, ...] = ()
    packs: frozenset[str] = frozenset()
    """The ggml types whose matrices localq's own kernels take, which a worker packs while it loads them."""


def this_machine(*, ram: int | None = None, devices: tuple[Device, ...] = ()) -> Machine:
    """The machine as it is now; ``ram`` is the limit that the person set.

    Raises KernelError when the kernel library, which knows the processor's features, cannot be loaded.
    """
    from runtime.ggml import packed_types
    from runtime.kernels import cpu_features

    return Machine(available_memory(ram=ram), usable_cores(), cpu_features(), devices, packed_types())
