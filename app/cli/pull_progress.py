"""What is shown while files come from the Hub: a bar for each and one for all, or lines of JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.cli.bars import TOTAL, Bars
from app.cli.front import Front
from app.cli.pace import Pace
from app.cli.text import format_bytes, format_duration

if TYPE_CHECKING:
    from app.hub.pull import Event, FileEvent
    from quant.progress import Event as Progress

JSON_SECONDS = 0.5


class Show:
    """Listens to a pull. With --json every line of stdout is an object with an ``event``."""

    def __init__(self, front: Front, bars: Bars, clock: Callable[[], float] = time.monotonic) -> None:
        self._front = front
        self._bars = bars
        self._clock = clock
        self._pace = Pace(clock)
        self._next = 0.0
        self._trouble: str | None = None
        self.kept_bytes = 0
        """Bytes that are on this machine now."""
        self.total_bytes = 0

    def __call__(self, event: Event) -> None:
        from app.hub.pull import FileEvent, FoundEvent, PlannedEvent, ReadingEvent

        self._front.out.hear(event)
        if isinstance(event, FileEvent):
            self._file(event)
        elif isinstance(event, PlannedEvent):
            self.total_bytes = event.total_bytes
            self.kept_bytes = event.total_bytes - event.to_fetch_bytes
            self._pace.at(self.kept_bytes)
            self._say(
                {
                    "event": "planned",
                    "files": [{"path": file.path, "size_bytes": file.size} for file in event.files],
                    "total_bytes": event.total_bytes,
                    "to_fetch_bytes": event.to_fetch_bytes,
                    "free_bytes": event.free_bytes,
                }
            )
            here = event.total_bytes - event.to_fetch_bytes
            if 0 < here < event.total_bytes:
                self._front.out.note(f"{format_bytes(here)} are here already.")
        elif isinstance(event, FoundEvent):
            self._bars.remove(event.file.path)
            self._say({"event": "found", "file": event.file.path, "path": event.path, "stored": event.stored})
            way = "is in the store already" if event.stored else f"was found as {event.path}, and is linked"
            self._front.out.note(f"{event.file.name} {way}.")
        elif isinstance(event, ReadingEvent):
            file = event.file
            self._bars.show(file.path, event.read_bytes % (file.size + 1), file.size, "reading")
        else:
            self.kept_bytes, self.total_bytes = event.done_bytes, event.total_bytes
            self._pace.at(event.done_bytes)
            self._bars.show(TOTAL, event.done_bytes, event.total_bytes, "another localq fetches this")
            self._say_now_and_then({"event": "waiting", **self._figures(event.done_bytes, event.total_bytes)})

    def converting(self, event: Progress) -> None:
        """Listens to the conversion of what comes."""
        from quant.progress import PhaseEvent, WarningEvent

        self._front.out.hear(event)
        if isinstance(event, PhaseEvent):
            self._bars.show("GGUF", event.done, event.total)
        elif isinstance(event, WarningEvent):
            self._front.out.warn(event.message)

    def _file(self, event: FileEvent) -> None:
        self.kept_bytes = event.done_bytes
        self._pace.at(event.done_bytes)
        checking = event.here_bytes == event.file.size and event.checked_bytes < event.file.size
        self._bars.show(event.file.path, event.here_bytes, event.file.size, "checking" if checking else "")
        self._bars.show(TOTAL, event.done_bytes, event.total_bytes, self._words(event))
        if event.trouble is not None and event.trouble != self._trouble:
            self._front.out.warn(f"{event.trouble}; trying again")
        self._trouble = event.trouble
        self._say_now_and_then(
            {
                "event": "progress",
                "file": event.file.path,
                "file_bytes": event.here_bytes,
                "checked_bytes": event.checked_bytes,
                **self._figures(event.done_bytes, event.total_bytes),
            },
            at_once=event.checked_bytes == event.file.size,
        )

    def _words(self, event: FileEvent) -> str:
        speed, left = self._pace.bytes_per_second, self._pace.seconds_left(event.total_bytes)
        if speed is None or left is None:
            return ""
        return f"{format_bytes(speed)}/s, {format_duration(left)} left"

    def _figures(self, done: int, total: int) -> dict[str, Any]:
        return {
            "done_bytes": done,
            "total_bytes": total,
            "bytes_per_second": self._pace.bytes_per_second,
            "eta_seconds": self._pace.seconds_left(total),
        }

    def _say(self, document: dict[str, Any]) -> None:
        if self._front.out.json:
            self._front.out.event(document)

    def _say_now_and_then(self, document: dict[str, Any], *, at_once: bool = False) -> None:
        if at_once or self._clock() >= self._next:
            self._next = self._clock() + JSON_SECONDS
            self._say(document)
