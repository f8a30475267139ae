"""What is shown while a model is quantized: one line that is drawn over, notes and warnings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.cli.front import Front

if TYPE_CHECKING:
    from app.cli.output import Progress
    from quant.progress import Event

WORDS = {
    "hash": "reading",
    "check": "checking weights",
    "calibrate": "calibrating",
    "measure": "measuring formats",
    "resume": "checking what is there",
    "encode": "encoding",
    "evaluate": "evaluating",
}


@contextmanager
def shown(front: Front, name: str, verbose: bool) -> Iterator[Show]:
    """A listener for the events of a run, which ends with the block."""
    with front.out.progress(f"quantizing {name}:") as progress:
        yield Show(front, progress, verbose)


class Show:
    """Events of a run as a line on the terminal, notes and warnings."""

    def __init__(self, front: Front, progress: Progress, verbose: bool) -> None:
        self._front = front
        self._progress = progress
        self._verbose = verbose
        self._tensor = ""

    def __call__(self, event: Event) -> None:
        from app.cli.text import format_bytes, format_duration
        from quant.progress import PhaseEvent, PlannedEvent, TensorEvent

        if isinstance(event, PhaseEvent):
            share = event.done / event.total if event.total else 1.0
            tensor = self._tensor if event.phase == "encode" else ""
            self._progress.say(f"{WORDS[event.phase]} {share:.0%}{tensor}")
        elif isinstance(event, TensorEvent):
            facts = event.facts
            eta = "" if event.eta_seconds is None else f", {format_duration(event.eta_seconds)} left"
            self._tensor = f", tensor {event.number} of {event.count}{eta}"
            if self._verbose and not event.resumed:
                error = "" if facts.error is None else f", error {facts.error:.2e} ({facts.encoder})"
                self._front.out.note(
                    f"{event.number}/{event.count} {facts.name}: {facts.source_type} -> {facts.type}, "
                    f"{format_bytes(facts.nbytes)}{error}"
                )
        elif isinstance(event, PlannedEvent):
            self._front.out.note(
                f"Making {format_bytes(event.nbytes)}, {event.bits_per_weight:.2f} bits per weight: "
                f"{event.encoded} tensors to encode, {event.copied} to copy."
            )
        else:
            self._front.out.warn(event.message)
