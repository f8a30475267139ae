"""What is shown while a model is quantized: one line that is drawn over, notes and warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from app.cli.eta import Eta, left
from app.cli.fitting import in_memory
from app.cli.front import Front
from app.cli.text import format_bytes, plural

if TYPE_CHECKING:
    from app.cli.output import Progress
    from quant.progress import CheckEvent, Event, TensorEvent

WORDS = {
    "hash": "reading",
    "check": "checking weights",
    "calibrate": "calibrating",
    "measure": "measuring formats",
    "probe": "probing",
    "resume": "checking what is there",
    "encode": "encoding",
    "evaluate": "evaluating",
    "read": "reading texts",
    "teach": "asking the original",
    "train": "training",
}


@contextmanager
def shown(front: Front, name: str, verbose: bool) -> Iterator[Show]:
    """A listener for the events of a run, which ends with the block."""
    with front.out.progress(f"quantizing {name}:") as progress:
        yield Show(front, progress, verbose)


class Show:
    """Events of a run as a line on the terminal, notes and warnings."""

    def __init__(
        self, front: Front, progress: Progress, verbose: bool, new_eta: Callable[[], Eta] = Eta
    ) -> None:
        self._front = front
        self._progress = progress
        self._verbose = verbose
        self._new_eta = new_eta
        self._phase = ""
        self._eta = new_eta()
        self._tensor = ""
        self._resumed = 0

    def __call__(self, event: Event) -> None:
        from quant.progress import CheckEvent, PhaseEvent, PlannedEvent, TensorEvent

        self._front.out.hear(event)
        if isinstance(event, PhaseEvent):
            self._say_resumed()
            share = event.done / event.total if event.total else 1.0
            if event.phase != self._phase:
                self._phase, self._eta = event.phase, self._new_eta()
            rest = self._tensor if event.phase == "encode" else self._eta.after(share)
            self._progress.say(f"{WORDS[event.phase]} {share:.0%}{rest}")
        elif isinstance(event, TensorEvent):
            self._tensor_done(event)
        elif isinstance(event, CheckEvent):
            self._checked(event)
        elif isinstance(event, PlannedEvent):
            self._front.out.note(
                f"Making {format_bytes(event.nbytes)}, {event.bits_per_weight:.2f} bits per weight: "
                f"{event.encoded} tensors to encode, {event.copied} to copy."
            )
            if event.running is not None:
                self._front.out.note(f"To run with {in_memory(event.running)}.")
        else:
            self._front.out.warn(event.message)

    def _checked(self, event: CheckEvent) -> None:
        if event.layer is None:
            self._front.out.note(f"After {event.step} updates: {event.loss:.4g} nats on the held-out text.")
        elif self._verbose:
            self._front.out.note(
                f"Layer {event.layer} after {event.step} updates: error {event.loss:.3g} on held-out text."
            )

    def _tensor_done(self, event: TensorEvent) -> None:
        facts = event.facts
        self._tensor = f", tensor {event.number} of {event.count}{left(event.eta_seconds)}"
        if event.resumed:
            self._resumed += 1
        elif self._verbose:
            error = "" if facts.error is None else f", error {facts.error:.2e} ({facts.encoder})"
            self._front.out.note(
                f"{event.number}/{event.count} {facts.name}: {facts.source_type} -> {facts.type}, "
                f"{format_bytes(facts.nbytes)}{error}"
            )

    def _say_resumed(self) -> None:
        if self._resumed:
            self._front.out.note(f"{plural(self._resumed, 'tensor')} of an earlier run are taken over.")
            self._resumed = 0
