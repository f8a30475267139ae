"""This machine: memory that is really available, cores that may be used, how fast memory is read."""

from __future__ import annotations

from runtime.hardware.cores import CoreReport, usable_cores
from runtime.hardware.memory import MemoryReport, MemoryTerm, available_memory

__all__ = [
    "CoreReport",
    "MemoryReport",
    "MemoryTerm",
    "available_memory",
    "usable_cores",
]
