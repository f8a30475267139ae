"""One request as its caller sees it: an iterator over typed events."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import TypeAlias

from runtime import errors
from runtime.engine.messages import Event, FailedEvent, FinishedEvent, TokenEvent
from runtime.errors import EngineError, LocalqError, PromptTooLong

Receiver: TypeAlias = Callable[[Event | LocalqError], None]
"""Takes events in their order; the last is a FinishedEvent or an error."""


class Generation:
    """Events of a request, in order, ending with a FinishedEvent; a failure is raised as its typed error.

    Iterate once, from one thread; leaving the loop early cancels. ``cancel`` may be called from any thread.
    With a ``receiver`` there is nothing to iterate over.
    """

    def __init__(
        self, request_id: int, cancel: Callable[[int], None], receiver: Receiver | None = None
    ) -> None:
        self.id = request_id
        self._cancel = cancel
        self._taken = receiver is not None
        self._receiver = receiver
        self._events: queue.SimpleQueue[Event | LocalqError] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Event]:
        if self._taken:
            raise EngineError("the events of this generation were consumed before")
        self._taken = True
        ended = False
        try:
            while not ended:
                event = self._events.get()
                ended = isinstance(event, LocalqError | FinishedEvent)
                if isinstance(event, LocalqError):
                    raise event
                yield event
        finally:
            if not ended:  # the caller lost interest: its slot is for others
                self.cancel()

    def cancel(self) -> None:
        """Stop generating; the events still end with a FinishedEvent, whose reason is ``cancelled``."""
        self._cancel(self.id)

    def result(self) -> tuple[str, FinishedEvent]:
        """Wait for the end: the whole text and how it ended."""
        text: list[str] = []
        for event in self:
            if isinstance(event, TokenEvent):
                text.append(event.text)
            elif isinstance(event, FinishedEvent):
                return "".join(text), event
        raise EngineError("the generation ended without a last event")

    def put(self, event: Event | LocalqError) -> None:
        """For the engine: hand an event to the caller."""
        seen = error_of(event) if isinstance(event, FailedEvent) else event
        (self._receiver or self._events.put)(seen)


def error_of(event: FailedEvent) -> LocalqError:
    """The typed error that a failure stands for."""
    if event.code == "PromptTooLong":
        return PromptTooLong(
            event.message,
            prompt_tokens=int(event.details.get("prompt_tokens") or 0),
            context_tokens=int(event.details.get("context_tokens") or 0),
            at_least=bool(event.details.get("at_least")),
        )
    if event.code == "InvalidRequest":
        return errors.InvalidRequest(event.message, field=str(event.details.get("field")))
    return EngineError(event.message)
