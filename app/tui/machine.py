"""What this machine is, in a few lines: what decides which models run here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from app.settings import Settings
from app.terminal import sanitize
from runtime.errors import LocalqError
from runtime.units import format_bytes

BITS = 4.8
"""Of a weight in a Q4_K_M, and a little for the cache."""


@dataclass(frozen=True)
class Facts:
    """``problem`` is why some of it is not known."""

    available: int = 0
    total: int = 0
    limit: str = ""
    cores: int = 0
    isa: str = ""
    disk_free: int = 0
    problem: str = ""


def look(settings: Settings, home: Path) -> Facts:
    """Reads what the system says. Blocks for some milliseconds."""
    from app.store import disk
    from runtime.hardware import this_machine
    from runtime.kernels import active_isa

    try:
        machine = this_machine(ram=settings.ram)
        return Facts(
            machine.memory.available,
            machine.memory.total,
            machine.memory.binding.name,
            machine.cores.physical,
            active_isa(),
            disk.free_bytes(home),
        )
    except LocalqError as error:
        return Facts(problem=str(error))


def largest_billions(available: int) -> float:
    """Weights, in billions, of the largest model at four bits and a half that leaves room for a chat."""
    return max(0.0, (available * 0.9 - (300 << 20)) * 8 / BITS / 1e9)


def facts_text(facts: Facts) -> Text:
    """Names and values."""
    if facts.problem:
        return Text(f"This machine could not be looked at: {sanitize(facts.problem)}")
    rows = (
        (
            "memory",
            f"{format_bytes(facts.available)} for a model, of {format_bytes(facts.total)} "
            f"(limited by {facts.limit})",
        ),
        ("processor", f"{facts.cores} cores, kernels for {facts.isa}"),
        ("disk", f"{format_bytes(facts.disk_free)} free"),
        ("fits", f"models of up to about {largest_billions(facts.available):.0f} billion weights at 4 bits"),
    )
    text = Text()
    for name, value in rows:
        text.append(f"{name:<11}", "bold").append(f"{value}\n")
    text.right_crop(1)
    return text
