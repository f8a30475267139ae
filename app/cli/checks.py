"""What ``doctor`` looks at, one function a subject: facts in, findings out. Nothing here asks the machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from app.cli.remedies import PINNED_VERSION, Command, Installation, Remedy, kernel_remedy, rebuild_llama
from app.cli.text import format_bytes, plural
from runtime.engine.probe import Probe
from runtime.ggml.attach import SWITCH
from runtime.hardware import BandwidthReport, CoreReport, EnergyCounters, MemoryReport

Status = Literal["ok", "note", "warning", "broken"]

LITTLE_MEMORY = 1 << 30
LITTLE_DISK = 2 << 30
BUSY_SHARE = 0.25
"""Of the usable cores: what other programs may take before generation suffers."""

FEATURES = {
    "AVX": "avx",
    "AVX2": "avx2",
    "F16C": "f16c",
    "FMA": "fma",
    "BMI2": "bmi2",
    "AVX_VNNI": "avx_vnni",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512_vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AMX_INT8": "amx_int8",
    "NEON": "neon",
    "DOTPROD": "dotprod",
    "MATMUL_INT8": "i8mm",
    "SVE": "sve",
}
"""ggml's name of a feature -> that of runtime.kernels."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``next_command`` says what to do where ``status`` is not ok."""

    subject: str
    status: Status
    detail: str
    next_command: str | None = None
    fix: tuple[Command, ...] = ()
    """What `localq doctor --fix` runs: commands that change the installation, never what a person keeps."""

    @staticmethod
    def mended(subject: str, status: Status, remedy: Remedy) -> Finding:
        """A finding that the remedy's commands do away with."""
        return Finding(subject, status, remedy.detail, remedy.shown, remedy.commands)


@dataclass(frozen=True)
class BusyProcess:
    """Another program that computes: ``cores`` are processors' worth of time."""

    pid: int
    name: str
    cores: float


def check_llama(probe: Probe, installation: Installation) -> list[Finding]:
    """The installed llama.cpp against the one that localq was made for."""
    versions = f"llama-cpp-python {probe.llama_cpp_python}, llama.cpp {probe.llama}, ggml {probe.ggml}"
    if probe.llama_cpp_python != PINNED_VERSION:
        detail = f"{versions}; localq is made for llama-cpp-python {PINNED_VERSION}"
        return [Finding.mended("llama.cpp", "warning", rebuild_llama(detail, installation))]
    devices = ", ".join(
        f"{device.description} ({format_bytes(device.free)} free)" for device in probe.devices
    )
    return [Finding("llama.cpp", "ok", f"{versions}; {f'devices: {devices}' if devices else 'no device'}")]


def check_features(
    compiled: Collection[str], has: Collection[str], installation: Installation, *, portable: bool = False
) -> Finding:
    """What llama.cpp was compiled for (in ggml's names) against what the processor has (in ours).

    ``portable``: it has a library for each level of the architecture, and the loader took the best.
    """
    used = {FEATURES[name] for name in compiled if name in FEATURES}
    lacking, unused = sorted(used - set(has)), sorted(set(FEATURES.values()) & set(has) - used)
    uses = f"llama.cpp uses {', '.join(sorted(used)) or 'no vector instructions'}"
    if lacking:
        detail = f"llama.cpp was compiled for {', '.join(lacking)}, which this processor lacks"
        return Finding.mended("processor", "broken", rebuild_llama(detail, installation))
    if portable:
        return Finding("processor", "ok", f"{uses}: the best level of this build")
    if unused:
        detail = f"llama.cpp was compiled without {', '.join(unused)}, which this processor has: it is slower"
        return Finding.mended("processor", "warning", rebuild_llama(detail, installation))
    return Finding("processor", "ok", uses)


def check_kernels(isa: str, probe: Probe | None, installation: Installation) -> Finding:
    """Whether localq's kernels (of the set ``isa``) multiply inside llama.cpp; None: that does not load."""
    if probe is None:
        return Finding("kernels", "ok", f"localq's own kernels run {isa}")
    if probe.kernels:
        return Finding("kernels", "ok", f"localq's own kernels multiply inside llama.cpp: {probe.kernels}")
    if isa == "scalar":  # nothing is amiss: the processor has no more
        return Finding(
            "kernels", "note", f"llama.cpp multiplies with its own kernels: {probe.kernels_reason}"
        )
    detail = f"llama.cpp multiplies with kernels of its own, which are slower: {probe.kernels_reason}"
    if probe.kernels_reason.startswith(SWITCH):
        return Finding("kernels", "note", detail, f"unset {SWITCH}")
    return Finding.mended("kernels", "warning", kernel_remedy(detail, installation))


def check_memory(memory: MemoryReport) -> Finding:
    """What a model may take, and every limit that was found."""
    terms = "\n".join(
        f"{'>' if term is memory.binding else ' '} {term.name}: {format_bytes(term.bytes)}, {term.detail}"
        for term in memory.terms
    )
    less = f", less {format_bytes(memory.margin)} that stay free" if memory.margin else ""
    detail = (
        f"{format_bytes(memory.available)} available for a model: what {memory.binding.name} leaves{less}"
        f"\n{terms}"
    )
    if memory.available < LITTLE_MEMORY:
        return Finding("memory", "warning", detail, "ps -eo pid,rss,comm --sort=-rss | head")
    return Finding("memory", "ok", detail)


def check_cores(cores: CoreReport) -> Finding:
    """What of the processor may be used."""
    quota = f", limited to {cores.quota:g} processors' worth of time" if cores.quota is not None else ""
    fast = f", {cores.fast} of them fast" if cores.fast != cores.physical else ""
    threads = plural(cores.logical, "hardware thread")
    return Finding("cores", "ok", f"{cores.model}: {plural(cores.physical, 'core')}{fast}, {threads}{quota}")


def check_bandwidth(bandwidth: BandwidthReport | None) -> Finding:
    """How fast memory is read; None where it was never measured."""
    if bandwidth is None:
        return Finding("bandwidth", "note", "not measured yet", "localq doctor --measure")
    when = "measured before" if bandwidth.cached else "measured now"
    speed = f"{bandwidth.bytes_per_second / 1e9:.1f} GB/s with {plural(bandwidth.threads, 'thread')}"
    return Finding("bandwidth", "ok", f"{speed} ({when}): the most that decoding can read")


def check_energy(energy: EnergyCounters) -> Finding:
    """The counters behind figures of energy, or why there are none."""
    names = ", ".join(counter.name for counter in energy.counters)
    if not names:
        return Finding("energy", "note", f"no counter: {energy.reason}")
    return Finding("energy", "ok", f"{names}; left out: {energy.reason}" if energy.reason else names)


def check_load(busy: Sequence[BusyProcess], load: float, cores: CoreReport) -> Finding:
    """Whether other programs compute at the same time: threads of a step wait for the slowest one."""
    taken = sum(process.cores for process in busy)
    summary = f"load {load:.1f}; other programs take {taken:.1f} of {plural(cores.physical, 'core')}"
    if taken <= BUSY_SHARE * cores.physical:
        return Finding("load", "ok", summary)
    names = ", ".join(f"{process.name} ({process.pid}): {process.cores:.1f}" for process in busy[:5])
    detail = f"{summary}, and generation waits for them: {names}"
    return Finding("load", "warning", detail, "ps -eo pid,pcpu,comm --sort=-pcpu | head")


def check_disk(free_bytes: int, reclaimable_bytes: int) -> Finding:
    """Room for more models."""
    detail = f"{format_bytes(free_bytes)} free for models"
    if reclaimable_bytes:
        return Finding(
            "disk", "note", f"{detail}; {format_bytes(reclaimable_bytes)} are needed by no model", "localq gc"
        )
    if free_bytes < LITTLE_DISK:
        return Finding("disk", "warning", detail, "localq df")
    return Finding("disk", "ok", detail)
