"""What this machine is, in a few figures: what decides which models run here, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.settings import Settings
from runtime.errors import LocalqError

BITS = 4.8
"""Of a weight in a Q4_K_M, and a little for the cache."""


@dataclass(frozen=True)
class Facts:
    """``problem`` is why some of it is not known. Sizes in bytes."""

    available: int = 0
    total: int = 0
    limit: str = ""
    cores: int = 0
    isa: str = ""
    disk_free: int = 0
    bandwidth: float = 0.0
    """Bytes a second that all threads together read of memory."""
    problem: str = ""

    @property
    def largest_weights(self) -> float:
        """Of the largest model at four bits and a half that leaves room for a chat."""
        return max(0.0, (self.available * 0.9 - (300 << 20)) * 8 / BITS)


def look(settings: Settings, home: Path, held: int = 0) -> Facts:
    """Reads what the system says. ``held`` bytes are another model's, which would give way. Blocks for some
    milliseconds; for half a second where the memory's speed was never measured."""
    from app.cli.fitting import speeds_here
    from app.store import disk
    from runtime.hardware import this_machine
    from runtime.kernels import active_isa

    try:
        machine = this_machine(ram=settings.ram)
        available = machine.memory.available + held
        return Facts(
            available if settings.ram is None else min(available, settings.ram),
            machine.memory.total,
            machine.memory.binding.name,
            machine.cores.physical,
            active_isa(),
            disk.free_bytes(home),
            speeds_here(settings).bandwidth,
        )
    except LocalqError as error:
        return Facts(problem=str(error))
