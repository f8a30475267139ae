"""Asks the machine, the installation and the store what ``app.cli.checks`` judges."""

from __future__ import annotations

import os
import platform
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from app.cli.checks import (
    BusyProcess,
    Finding,
    check_bandwidth,
    check_cores,
    check_disk,
    check_energy,
    check_features,
    check_kernels,
    check_llama,
    check_load,
    check_memory,
)
from app.cli.front import Front
from app.cli.native import LlamaBroken, ask_llama
from app.cli.remedies import kernel_remedy, llama_remedy, this_installation
from app.cli.text import plural
from app.errors import SettingsError, StoreError
from app.settings import Settings
from app.store import Store
from app.version import VERSION
from runtime.engine.probe import Probe
from runtime.errors import KernelError
from runtime.hardware import (
    available_memory,
    energy_counters,
    memory_bandwidth,
    remembered_bandwidth,
    usable_cores,
)

WATCHED_SECONDS = 0.5
BUSY_CORES = 0.1


@dataclass
class Examination:
    """Findings in their order, and the facts behind them for --json."""

    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def examine(front: Front, *, measure: bool) -> Examination:
    """Look at everything. What fails is a finding, never an exception."""
    seen = Examination()
    settings = _settings(front, seen)
    seen.findings.append(Finding("localq", "ok", f"{VERSION}, Python {platform.python_version()}"))
    seen.facts["versions"] = {"localq": VERSION, "python": platform.python_version()}
    _llama(seen)
    cores = usable_cores()
    memory = available_memory(ram=settings.ram)
    seen.findings += [check_memory(memory), check_cores(cores)]
    seen.facts["memory"] = {"report": memory, "available_bytes": memory.available}
    seen.facts["cores"] = cores
    _bandwidth(seen, settings, measure)
    energy = energy_counters()
    seen.findings.append(check_energy(energy))
    seen.facts["energy"] = {
        "counters": [counter.name for counter in energy.counters],
        "reason": energy.reason,
    }
    load = psutil.getloadavg()[0]
    busy = busy_processes()
    seen.findings.append(check_load(busy, load, cores))
    seen.facts["load"] = {"average": load, "busy": busy}
    _store(front.store(settings), seen)
    return seen


def _settings(front: Front, seen: Examination) -> Settings:
    try:
        return front.settings()
    except SettingsError as error:
        seen.findings.append(Finding("settings", "broken", str(error), error.next_command))
        return Settings()


def _llama(seen: Examination) -> None:
    probe: Probe | None = None
    installation = this_installation()
    seen.facts["installation"] = installation
    try:
        seen.facts["llama"] = probe = ask_llama()
    except LlamaBroken as error:
        remedy = llama_remedy(str(error), installation)
        seen.findings.append(Finding.mended("llama.cpp", "broken", remedy))
    else:
        seen.findings += check_llama(probe, installation)
    try:
        from runtime.kernels import active_isa, cpu_features

        features, isa = cpu_features(), active_isa()
    except KernelError as error:
        seen.findings.append(Finding.mended("kernels", "broken", kernel_remedy(str(error), installation)))
        return
    seen.facts["processor"] = {"features": sorted(features), "isa": isa}
    if probe is not None:
        compiled = [name for name, on in probe.features.items() if on]
        seen.findings.append(check_features(compiled, features, installation, portable=probe.portable))
    seen.findings.append(check_kernels(isa, probe, installation))


def _bandwidth(seen: Examination, settings: Settings, measure: bool) -> None:
    threads = settings.threads or None
    try:
        bandwidth = memory_bandwidth(threads, fresh=True) if measure else remembered_bandwidth(threads)
    except KernelError:
        return  # the finding on the kernels says so
    seen.findings.append(check_bandwidth(bandwidth))
    seen.facts["bandwidth"] = bandwidth


def _store(store: Store, seen: Examination) -> None:
    findings = seen.findings
    try:
        damaged = store.damaged()
        models = store.list()
        usage = store.usage()
    except StoreError as error:
        findings.append(Finding("store", "broken", str(error), error.next_command or "localq df"))
        return
    for broken in damaged:
        findings.append(Finding("store", "broken", str(broken), broken.next_command))
    for model in models:
        try:
            store.paths(model)
        except StoreError as error:
            detail = f"{model.name} cannot be used: {error}"
            findings.append(Finding("store", "broken", detail, error.next_command))
    if not _is_writable(store.home):
        detail = f"{store.home} cannot be written to"
        findings.append(Finding("store", "broken", detail, f"ls -ld {shlex.quote(str(store.home))}"))
    if all(finding.subject != "store" for finding in findings):
        findings.append(Finding("store", "ok", f"{plural(len(models), 'model')} in {store.home}"))
    findings.append(check_disk(usage.free_bytes, usage.reclaimable_bytes))
    seen.facts["store"] = {"home": str(store.home), "models": len(models), "usage": usage}


def _is_writable(home: Path) -> bool:
    """Whether the store's folder, or the nearest one above it that exists, takes new files."""
    folder = home
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def busy_processes(seconds: float = WATCHED_SECONDS) -> list[BusyProcess]:
    """The programs beside this one that computed during the last ``seconds``, busiest first."""
    before = dict(_times())
    started = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - started
    found = []
    for (pid, name), spent in _times():
        cores = (spent - before.get((pid, name), spent)) / elapsed
        if cores >= BUSY_CORES:
            found.append(BusyProcess(pid, name, round(cores, 2)))
    return sorted(found, key=lambda process: -process.cores)


def _times() -> Iterator[tuple[tuple[int, str], float]]:
    """Processor seconds of every other process that this one may see."""
    for process in psutil.process_iter(["pid", "name", "cpu_times"]):
        times = process.info["cpu_times"]
        if times is not None and process.info["pid"] != os.getpid():
            yield (process.info["pid"], process.info["name"] or "?"), times.user + times.system
