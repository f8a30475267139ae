"""Memory that this process may really take, and which limit says so.

The page cache is nobody's: a model file that was read before sits there, and goes when memory is asked for.
So a group's use is counted without its cached file pages, active ones too: reading a model twice makes its
pages active, and the answer must not depend on that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.hardware.cgroup import find_controller, read_number, read_table
from runtime.hardware.cores import usable_cores
from runtime.units import format_bytes

MIB = 1 << 20
MARGIN_SHARE = 32
MARGIN_MIN, MARGIN_MAX = 64 * MIB, 512 * MIB
_V1_UNLIMITED = 1 << 62  # v1 writes "no limit" as the largest number of pages
_NEVER_RESIDENT = {
    "RLIMIT_AS": (192 * MIB, 10 * MIB),
    "RLIMIT_DATA": (32 * MIB, 10 * MIB),
    "RLIMIT_RSS": (0, 0),
}
"""Address space that a worker cannot do without and never touches: once, and for each thread."""


@dataclass(frozen=True, slots=True)
class MemoryTerm:
    """One limit: ``bytes`` are left under it (0 when it is passed already)."""

    name: str
    bytes: int
    detail: str
    margin: int = 0
    """Of it, kept free for the system and for what no forecast sees."""

    @property
    def usable(self) -> int:
        """Bytes that may be taken."""
        return max(0, self.bytes - self.margin)


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """Every limit that was found, and what is left when all of them hold."""

    terms: tuple[MemoryTerm, ...]
    total: int
    """Memory of the machine."""

    @property
    def binding(self) -> MemoryTerm:
        """The limit that leaves the least."""
        return min(self.terms, key=lambda term: term.usable)

    @property
    def margin(self) -> int:
        """What the binding limit keeps free."""
        return self.binding.margin

    @property
    def available(self) -> int:
        """Bytes that a new process may take."""
        return self.binding.usable


def available_memory(
    *,
    ram: int | None = None,
    root: Path = Path("/"),
    rlimits: Mapping[str, int] | None = None,
) -> MemoryReport:
    """What a worker started now could take.

    ``ram`` is the limit that the person set; the margin is left free of all others. ``root`` stands for
    ``/``, ``rlimits`` (name -> soft limit) for this process's own, which the worker inherits; it starts with
    nothing of them used.
    """
    meminfo = read_table(root / "proc/meminfo")
    if "MemAvailable" in meminfo and "MemTotal" in meminfo:
        total, free = meminfo["MemTotal"] * 1024, meminfo["MemAvailable"] * 1024
        terms = [MemoryTerm("MemAvailable", free, f"of {format_bytes(total)} in this machine")]
    else:
        total, free = _system_memory()
        terms = [MemoryTerm("free memory", free, f"of {format_bytes(total)} in this machine")]
    terms += _cgroup_terms(root)
    terms += _rlimit_terms(usable_cores(root=root).physical, _own_rlimits() if rlimits is None else rlimits)
    least = min(term.bytes for term in terms)
    margin = min(max(least // MARGIN_SHARE, MARGIN_MIN), MARGIN_MAX)
    terms = [replace(term, margin=margin) for term in terms]
    if ram is not None:
        terms.append(MemoryTerm("--ram", max(0, ram), "asked for"))
    return MemoryReport(tuple(terms), total)


def _cgroup_terms(root: Path) -> list[MemoryTerm]:
    controller = find_controller("memory", root)
    if controller is None:
        return []
    terms = []
    for folder in controller.folders:
        if controller.version == 1:
            limits = {"memory.limit_in_bytes": read_number(folder / "memory.limit_in_bytes")}
            used = read_number(folder / "memory.usage_in_bytes")
            prefix = "total_"
        else:
            limits = {name: read_number(folder / name) for name in ("memory.max", "memory.high")}
            used = read_number(folder / "memory.current")
            prefix = ""
        for name, limit in limits.items():
            if limit is None or used is None or limit >= _V1_UNLIMITED:
                continue
            stat = read_table(folder / "memory.stat")
            cached = stat.get(f"{prefix}inactive_file", 0) + stat.get(f"{prefix}active_file", 0)
            held = max(0, used - cached)
            path = "/" + folder.relative_to(root).as_posix()
            detail = f"{format_bytes(limit)} in {path}, {format_bytes(held)} of it in use"
            terms.append(MemoryTerm(f"cgroup {name}", max(0, limit - held), detail))
    return terms


def _rlimit_terms(threads: int, rlimits: Mapping[str, int]) -> list[MemoryTerm]:
    terms = []
    for name, limit in rlimits.items():
        once, per_thread = _NEVER_RESIDENT[name]
        reserved = once + threads * per_thread
        detail = (
            f"{format_bytes(limit)}, of which {format_bytes(reserved)} are address space that holds nothing"
        )
        terms.append(MemoryTerm(name, max(0, limit - reserved), detail if reserved else format_bytes(limit)))
    return terms


def _own_rlimits() -> dict[str, int]:
    """Soft limits that are set; none on Windows."""
    try:
        import resource
    except ModuleNotFoundError:
        return {}
    limits = {}
    for name in _NEVER_RESIDENT:
        if hasattr(resource, name):
            soft = resource.getrlimit(getattr(resource, name))[0]
            if soft != resource.RLIM_INFINITY:
                limits[name] = soft
    return limits


def _system_memory() -> tuple[int, int]:
    """(total, available) where the kernel keeps no /proc/meminfo: macOS, Windows."""
    import psutil

    memory = psutil.virtual_memory()
    return memory.total, memory.available
