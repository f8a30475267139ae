"""Processor cores that this process may use: affinity, topology, and the group's share of time.

A second hardware thread of a core shares its arithmetic units and its path to memory, so it adds nothing to
generation; on processors with cores of two sizes the small ones hold the large ones up at every barrier.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from runtime.hardware.cgroup import find_controller, read_number

_CPU = "sys/devices/system/cpu"


@dataclass(frozen=True, slots=True)
class CoreReport:
    """Counts of what this process may use; each at least 1."""

    physical: int
    """Cores, hardware threads of one counted once, no more than the group's share of time."""
    logical: int
    """Hardware threads that the affinity allows."""
    fast: int
    """Of the physical ones, those of the fastest kind (all of them where there is one kind)."""
    quota: float | None
    """Processors' worth of time that the group is given; None = no limit."""
    model: str
    """Name of the processor."""


def usable_cores(*, root: Path = Path("/"), affinity: Collection[int] | None = None) -> CoreReport:
    """What this process may use now. ``root`` stands for ``/``, ``affinity`` for the process's own."""
    allowed = sorted(_own_affinity() if affinity is None else affinity)
    cores = _physical_cores(root, allowed)
    capacity = {core: max(_capacity(root, cpu) for cpu in cpus) for core, cpus in cores.items()}
    best = max(capacity.values(), default=0)
    fast = sum(each == best for each in capacity.values())
    quota = _quota(root)
    limit = len(cores) if quota is None else max(1, min(len(cores), -int(-quota // 1)))
    return CoreReport(
        physical=max(1, limit),
        logical=max(1, len(allowed)),
        fast=max(1, min(fast, limit)),
        quota=quota,
        model=_model(root),
    )


def _own_affinity() -> set[int]:
    try:
        return set(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return set(range(os.cpu_count() or 1))


def _physical_cores(root: Path, allowed: list[int]) -> dict[object, list[int]]:
    """Core -> its allowed hardware threads. Where the topology is not told: psutil's count, or one each."""
    cores: dict[object, list[int]] = {}
    for cpu in allowed:
        topology = root / _CPU / f"cpu{cpu}" / "topology"
        siblings = _text(topology / "core_cpus_list") or _text(topology / "thread_siblings_list")
        if siblings is None:
            return _untold_cores(allowed)
        cores.setdefault(siblings, []).append(cpu)
    return cores


def _untold_cores(allowed: list[int]) -> dict[object, list[int]]:
    import psutil

    count = psutil.cpu_count(logical=False) or len(allowed)
    return {cpu: [cpu] for cpu in allowed[: max(1, count)]}


def _capacity(root: Path, cpu: int) -> int:
    """Relative speed: the device tree's (Arm), or the highest frequency (x86 with cores of two kinds)."""
    folder = root / _CPU / f"cpu{cpu}"
    told = read_number(folder / "cpu_capacity")
    if told is None and (root / "sys/devices/cpu_atom").is_dir():
        told = read_number(folder / "cpufreq/cpuinfo_max_freq")
    return told or 0


def _quota(root: Path) -> float | None:
    controller = find_controller("cpu", root)
    if controller is None:
        return None
    shares = []
    for folder in controller.folders:
        if controller.version == 1:
            quota = read_number(folder / "cpu.cfs_quota_us")
            period = read_number(folder / "cpu.cfs_period_us")
        else:
            fields = (_text(folder / "cpu.max") or "").split()
            quota, period = (int(field) if field.isdigit() else None for field in (*fields, "", "")[:2])
        if quota is not None and period and quota > 0:
            shares.append(quota / period)
    return min(shares, default=None)


def _model(root: Path) -> str:
    text = _text(root / "proc/cpuinfo") or ""
    for key in ("model name", "Hardware", "cpu model", "uarch"):
        for line in text.splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
