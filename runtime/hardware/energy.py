"""Energy that the processor and its memory took, from RAPL counters where the machine has them.

Linux shows them as ``/sys/class/powercap/intel-rapl:*`` (AMD's too): microjoules that only grow, until they
wrap around at ``max_energy_range_uj``, after a quarter of an hour to a few hours. Counted: every package, and
dram, which is no part of it; a package's own parts (core, uncore) and the platform (psys) would count
twice. Sources: the kernel's power/powercap/powercap.rst and ABI/testing/sysfs-class-powercap; who may read
them: CVE-2020-8694.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_POWERCAP = "sys/class/powercap"
_FOLDERS = "intel-rapl:*"
_MEMORY = " dram"
SAMPLED_SECONDS = 60.0
"""Between two readings by the meter itself: no package takes 262 kJ, the usual range, in that time."""


@dataclass(frozen=True, slots=True)
class EnergyCounter:
    """A counter that can be read."""

    name: str
    """``"package-0"``, or ``"package-0 dram"`` for the memory at that package."""
    path: Path
    range_microjoules: int
    """Where it wraps around to zero."""


@dataclass(frozen=True, slots=True)
class EnergyCounters:
    """The counters to add up. ``reason`` says why there are none, or which are left out."""

    counters: tuple[EnergyCounter, ...]
    reason: str | None = None


def energy_counters(root: Path = Path("/")) -> EnergyCounters:
    """This machine's counters. ``root`` stands for ``/``."""
    folder = root / _POWERCAP
    domains = {}
    for domain in sorted(folder.glob(_FOLDERS)):
        name = _domain_name(domain)
        if name is not None:
            domains[domain] = name
    if not domains:
        return EnergyCounters((), "this machine shows no RAPL counter (Linux on bare metal does)")
    found, refused = [], {}
    for domain, name in domains.items():
        file = domain / "energy_uj"
        try:
            _number(file)
            found.append(EnergyCounter(name, file, _number(domain / "max_energy_range_uj", least=1)))
        except PermissionError:
            refused[name] = f"{name} may be read by root only (sudo chmod a+r {file})"
        except (OSError, ValueError) as error:
            refused[name] = f"{name} cannot be read: {error}"
    reason = "; ".join(refused.values()) or None
    # without memory the figure is a part that can be named; without a package it is none
    whole = all(name.endswith(_MEMORY) for name in refused)
    return EnergyCounters(tuple(found) if whole else (), reason)


def wrapped_difference(before: int, after: int, range_microjoules: int) -> int:
    """Microjoules from one reading to the next, which wrapped around once at most."""
    return after - before if after >= before else after - before + range_microjoules


class EnergyMeter:
    """Joules from entering to leaving a ``with`` block, of every program on the machine.

        with EnergyMeter() as meter:
            work()
        print(meter.joules, meter.reason)

    A thread reads the counters once a minute, so that none wraps around twice unseen. The figures may be
    asked for inside of the block too: those of the last reading, and :meth:`sample` makes one. Enter it once.
    """

    def __init__(self, root: Path = Path("/"), sampled_seconds: float = SAMPLED_SECONDS) -> None:
        found = energy_counters(root)
        self._counters = found.counters
        self._reason = found.reason
        self._sampled_seconds = sampled_seconds
        self._last: dict[str, int] = {}
        self._microjoules: dict[str, int] = {}
        self._failure: str | None = None
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._thread: threading.Thread | None = None
        self._began = self._ended = 0.0

    def __enter__(self) -> EnergyMeter:
        self._began = time.monotonic()
        self.sample()
        if self._counters:
            self._thread = threading.Thread(target=self._keep_sampling, name="energy", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        if self._thread is not None:
            self._thread.join()
        self.sample()

    def sample(self) -> None:
        """Read every counter. One that fails ends the measurement: :attr:`reason` says so."""
        with self._lock:
            self._ended = time.monotonic()
            for counter in self._counters:
                try:
                    now = _number(counter.path)
                except (OSError, ValueError) as error:
                    self._failure = f"{counter.name} could not be read any more: {error}"
                    continue
                before = self._last.get(counter.name, now)
                taken = wrapped_difference(before, now, counter.range_microjoules)
                self._microjoules[counter.name] = self._microjoules.get(counter.name, 0) + taken
                self._last[counter.name] = now

    @property
    def seconds(self) -> float:
        """From entering to the last reading."""
        return self._ended - self._began

    @property
    def joules(self) -> float | None:
        """The sum over all domains; None where no counter works: see :attr:`reason`."""
        with self._lock:
            total = sum(self._microjoules.values())
            return None if self._failure is not None or total == 0 else total / 1e6

    @property
    def domains(self) -> Mapping[str, float]:
        """Joules of each domain; empty where :attr:`joules` is None."""
        if self.joules is None:
            return {}
        with self._lock:
            return {name: microjoules / 1e6 for name, microjoules in self._microjoules.items()}

    @property
    def reason(self) -> str | None:
        """Why :attr:`joules` is None, or which domains are left out of it."""
        if self._failure is not None or not self._counters:
            return self._failure or self._reason
        if self.joules is None:
            return f"the counters did not move in {self.seconds:.3g} s"
        return self._reason

    def _keep_sampling(self) -> None:
        while not self._left.wait(self._sampled_seconds):
            self.sample()


def _domain_name(domain: Path) -> str | None:
    """A package's name, or its dram's behind the package's; None for a domain that is not counted."""
    name = _text(domain / "name")
    if name == "dram":
        package = _text(domain.parent / domain.name.rpartition(":")[0] / "name")
        return f"{package}{_MEMORY}" if package else None
    return name if name is not None and name.startswith("package") else None


def _number(path: Path, least: int = 0) -> int:
    number = int(path.read_text())
    if number < least:
        raise ValueError(f"{path} holds {number}")
    return number


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
