"""A model on its way into the store, as a screen sees it: steps, files, tensors, layers. Any thread tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from app.cli.eta import Eta
from app.cli.output import Block, Output, Progress
from app.cli.pace import Pace
from app.cli.text import format_bytes, format_duration
from app.hub.pull import FileEvent, FoundEvent, ReadingEvent, WaitingEvent
from app.hub.pull import PlannedEvent as FetchPlanned
from quant.certificate.document import TensorFacts
from quant.progress import PhaseEvent, TensorEvent, WarningEvent
from runtime.errors import LocalqError

State = Literal["now", "done"]

PHASES: Final = {
    "hash": "check",
    "check": "check",
    "convert": "convert",
    "calibrate": "calibrate",
    "measure": "measure",
    "probe": "measure",
    "resume": "encode",
    "encode": "encode",
    "evaluate": "evaluate",
}
"""Of the pipeline, and the step that a person sees."""
SIDE_BY_SIDE: Final = {"fetch", "convert"}
"""Files are converted as they come."""
KEPT_NOTES: Final = 6


class Stopped(LocalqError):
    """The person left while a model was being made."""


@dataclass
class Step:
    """One line of the work: a bar, or words where nobody can say how far it is."""

    name: str
    state: State = "now"
    share: float | None = None
    words: str = ""


@dataclass
class File:
    """One that is fetched."""

    name: str
    done: int
    total: int
    words: str = ""


@dataclass
class Making:
    """Follows the events of a pull, a conversion and a quantization. ``stop`` makes the next of them raise
    :class:`Stopped`, which ends the work where it stands."""

    clock: Callable[[], float] = time.monotonic
    steps: dict[str, Step] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    layers: dict[str, list[TensorFacts]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tensor: str = ""
    """The one that was finished last, and as what."""
    stop: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)
    _pace: Pace | None = None
    _eta: Eta | None = None

    def hear(self, event: object) -> None:
        """An event of :mod:`app.hub.pull` or :mod:`quant.progress`. Raises Stopped."""
        self.go_on()
        with self.lock:
            match event:
                case FetchPlanned():
                    self.files = {
                        file.path: File(file.name, 0, file.size) for file in event.files if file.size
                    }
                    self._pace = Pace(self.clock)
                    self._fetched(event.total_bytes - event.to_fetch_bytes, event.total_bytes)
                case FileEvent():
                    checking = event.here_bytes == event.file.size and event.checked_bytes < event.file.size
                    words = event.trouble or ("checking" if checking else "")
                    self._file(event.file.path, event.here_bytes, words)
                    self._fetched(event.done_bytes, event.total_bytes)
                case FoundEvent():
                    self._file(event.file.path, event.file.size, "here already")
                case ReadingEvent():
                    self._file(event.file.path, event.read_bytes % (event.file.size + 1), "reading")
                case WaitingEvent():
                    self._fetched(event.done_bytes, event.total_bytes)
                case PhaseEvent():
                    self._phase(event)
                case TensorEvent():
                    self._tensor(event)
                case WarningEvent():
                    self.say(event.message)
                case _:
                    pass

    def advance(self, name: str, done: int, total: int) -> None:
        """``done`` of ``total`` bytes of a step that tells nothing else. Raises Stopped."""
        self.go_on()
        with self.lock:
            self._pace = self._pace or Pace(self.clock)
            self._bytes(name, done, total)

    def begin(self, name: str, words: str = "") -> Step:
        """A step that is under way now; those before it are done."""
        with self.lock:
            for other in self.steps.values():
                beside = {name, other.name} == SIDE_BY_SIDE and (other.share or 0.0) < 1.0
                if other.name != name and other.state == "now" and not beside:
                    other.state, other.share = "done", None if other.share is None else 1.0
                    other.words = "" if other.share is None else other.words.partition(", ")[0]
            step = self.steps.setdefault(name, Step(name))
            step.state = "now"
            step.words = words
            return step

    def say(self, note: str) -> None:
        """A sentence for the person."""
        with self.lock:
            if note not in self.notes:
                self.notes = [*self.notes, note][-KEPT_NOTES:]

    def go_on(self) -> None:
        """Raises Stopped where the person wants no more of it."""
        if self.stop:
            raise Stopped("stopped")

    # -- within ---------------------------------------------------------------------------------------------

    def _fetched(self, done: int, total: int) -> None:
        self._bytes("fetch", done, total)

    def _bytes(self, name: str, done: int, total: int) -> None:
        assert self._pace is not None
        self._pace.at(done)
        step = self.begin(name)
        step.share = done / total if total else 0.0
        words = f"{format_bytes(done)} of {format_bytes(total)}" if total else ""
        speed, left = self._pace.bytes_per_second, self._pace.seconds_left(total)
        if speed is not None and left is not None and done < total:
            words += f", {format_bytes(int(speed))}/s, {format_duration(left)} left"
        step.words = words

    def _file(self, path: str, done: int, words: str) -> None:
        if (file := self.files.get(path)) is not None:
            file.done, file.words = done, words

    def _phase(self, event: PhaseEvent) -> None:
        name = PHASES[event.phase]
        share = event.done / event.total if event.total else 1.0
        if name not in self.steps or self.steps[name].state == "done":
            self._eta = Eta(self.clock)
        words = self.steps[name].words if name == "encode" and name in self.steps else ""
        step = self.begin(name, words)
        step.share = share
        if name != "encode":
            assert self._eta is not None
            step.words = self._eta.after(share).removeprefix(", ")

    def _tensor(self, event: TensorEvent) -> None:
        from app.cli.quality import layer_of

        facts = event.facts
        if facts.elements > 1:
            self.layers.setdefault(layer_of(facts.name), []).append(facts)
        step = self.begin("encode")
        left = "" if event.eta_seconds is None else f", {format_duration(event.eta_seconds)} left"
        step.words = f"tensor {event.number:,} of {event.count:,}{left}"
        error = "" if facts.error is None else f", error {facts.error:.1e}"
        kind = facts.type if facts.type == facts.source_type else f"{facts.source_type} → {facts.type}"
        self.tensor = f"{facts.name}  {kind}{error}"


class ScreenOutput(Output):
    """What commands print, given to a :class:`Making` in the place of a terminal."""

    def __init__(self, making: Making) -> None:
        super().__init__()
        self._making = making

    def hear(self, event: object) -> None:
        self._making.hear(event)

    def result(self, document: Any, *blocks: Block, quiet: Any = ()) -> None:
        self._making.go_on()

    def note(self, *blocks: Block) -> None:
        self.tell(*blocks)

    def tell(self, *blocks: Block) -> None:
        for block in blocks:
            if isinstance(block, str):
                self._making.say(block)

    def warn(self, message: str) -> None:
        self._making.say(message)

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        self._making.go_on()
        if not label.startswith(("quantizing", "converting")):  # these tell more by their events
            self._making.begin("plan", label)
        yield Progress(label, None)

    @contextmanager
    def bars(self) -> Iterator[Any]:
        from app.cli.bars import Bars

        yield Bars(None, color=False)
