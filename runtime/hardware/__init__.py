"""This machine: memory that is really available, cores that may be used, how fast memory is read, energy."""

from __future__ import annotations

from runtime.hardware.bandwidth import BandwidthReport, memory_bandwidth, remembered_bandwidth
from runtime.hardware.cores import CoreReport, usable_cores
from runtime.hardware.energy import EnergyCounters, EnergyMeter, energy_counters
from runtime.hardware.machine import Device, Machine, this_machine
from runtime.hardware.memory import MemoryReport, MemoryTerm, available_memory

__all__ = [
    "BandwidthReport",
    "CoreReport",
    "Device",
    "EnergyCounters",
    "EnergyMeter",
    "Machine",
    "MemoryReport",
    "MemoryTerm",
    "available_memory",
    "energy_counters",
    "memory_bandwidth",
    "remembered_bandwidth",
    "this_machine",
    "usable_cores",
]
