"""How fast this machine reads memory, measured once and remembered.

Decoding reads every weight once for a token, so bandwidth over weights is the ceiling of its speed.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.hardware.cores import CoreReport, usable_cores

MEASURED_SECONDS = 0.4
HOME_VARIABLE = "LOCALQ_HOME"
FILE_NAME = "bandwidth.json"
METHOD = 1
"""Part of the key: raise it when the library measures differently."""


@dataclass(frozen=True, slots=True)
class BandwidthReport:
    """``threads`` threads together read ``bytes_per_second``; ``cached`` when measured by an earlier call."""

    bytes_per_second: float
    threads: int
    cached: bool


def memory_bandwidth(
    threads: int | None = None, *, cache: Path | None = None, fresh: bool = False
) -> BandwidthReport:
    """The read bandwidth of ``threads`` threads (default: one a usable core), from ``cache`` or measured now.

    ``fresh`` measures in any case. A cache file that cannot be read or written costs a measurement, no more.
    Measuring takes half a second, and up to 2 GiB for that time. Raises KernelError without the library.
    """
    from runtime.kernels import active_isa, read_bandwidth

    cores = usable_cores()
    threads = threads or cores.physical
    path = cache or cache_folder() / FILE_NAME
    key = _key(cores, threads, active_isa())
    if not fresh and (remembered := remembered_bandwidth(threads, cache=path)) is not None:
        return remembered
    measured = read_bandwidth(threads, seconds=MEASURED_SECONDS)
    _write(path, _read(path) | {key: measured})
    return BandwidthReport(measured, threads, cached=False)


def remembered_bandwidth(threads: int | None = None, *, cache: Path | None = None) -> BandwidthReport | None:
    """What :func:`memory_bandwidth` measured before, or None. Raises KernelError without the library."""
    from runtime.kernels import active_isa

    cores = usable_cores()
    threads = threads or cores.physical
    known = _read(cache or cache_folder() / FILE_NAME).get(_key(cores, threads, active_isa()))
    if isinstance(known, int | float) and known > 0:
        return BandwidthReport(float(known), threads, cached=True)
    return None


def _key(cores: CoreReport, threads: int, isa: str) -> str:
    return f"{cores.model} | {threads} threads | {isa} | method {METHOD}"


def cache_folder() -> Path:
    """``$LOCALQ_HOME/cache``, or the platform's folder for a program's cache."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(home).expanduser() / "cache"
    import platformdirs

    return Path(platformdirs.user_cache_dir("localq", appauthor=False))


def _read(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}


def _write(path: Path, table: dict[str, Any]) -> None:
    """Replace the file whole: another process may write its own measurement at the same time."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(table, file, indent=1)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
