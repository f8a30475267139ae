"""What a quantization tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from quant.allocation.running import Running
from quant.certificate.document import TensorFacts

Phase: TypeAlias = Literal[
    "hash",
    "check",
    "calibrate",
    "measure",
    "probe",
    "resume",
    "encode",
    "evaluate",
    "convert",
    "read",
    "teach",
    "train",
]


@dataclass(frozen=True, slots=True)
class PhaseEvent:
    """``done`` of ``total`` units of a phase: bytes, tensors, weights, or thousandths."""

    phase: Phase
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """What will be written."""

    encoded: int
    copied: int
    """Tensors."""
    nbytes: int
    """Of the file."""
    bits_per_weight: float
    running: Running | None = None
    """Where the formats were chosen for a memory."""


@dataclass(frozen=True, slots=True)
class TensorEvent:
    """A tensor is finished, now or by an earlier run."""

    facts: TensorFacts
    number: int
    count: int
    resumed: bool
    eta_seconds: float | None
    """Until the last tensor is finished; None while nobody can say."""


@dataclass(frozen=True, slots=True)
class CheckEvent:
    """The held-out text was read in a training: see :class:`quant.qat.progress.Check`."""

    step: int
    loss: float
    layer: int | None


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """Something that deserves a look."""

    message: str


Event: TypeAlias = PhaseEvent | PlannedEvent | TensorEvent | CheckEvent | WarningEvent
OnEvent: TypeAlias = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """For callers that want no events."""
