"""Events of the engines' listening threads, brought to the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from runtime.errors import EngineError, LocalqError

T = TypeVar("T")


class Mailbox:
    """Hands on what comes from other threads, with one wake-up of the loop for all that comes at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._called = False

    def put(self, receiver: Callable[[Any], None], message: Any) -> None:
        """From any thread: ``receiver(message)`` is called in the loop."""
        self._letters.append((receiver, message))
        if not self._called:
            self._called = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                self._letters.clear()  # the loop has ended: nobody waits for anything

    def _deliver(self) -> None:
        self._called = False
        while self._letters:
            receiver, message = self._letters.popleft()
            receiver(message)


class Inbox(Generic[T]):
    """What has come for one answer, in order. ``limit`` bounds what a slow reader lets pile up."""

    def __init__(self, mailbox: Mailbox, limit: int) -> None:
        self._mailbox = mailbox
        self._limit = limit
        self._messages: list[T | LocalqError] = []
        self._arrived = asyncio.Event()

    def receiver(self, tag: int) -> Callable[[T | LocalqError], None]:
        """For an engine: takes messages from its thread, each with ``tag``."""
        return lambda message: self._mailbox.put(self._take, (tag, message))

    async def all(self) -> list[Any]:
        """Wait for messages; all that are there, as (tag, message)."""
        await self._arrived.wait()
        self._arrived.clear()
        messages, self._messages = self._messages, []
        return messages

    def _take(self, message: Any) -> None:
        if len(self._messages) >= self._limit:
            slow = EngineError("the client reads the answer too slowly; it was given up")
            message = (message[0], slow)
        self._messages.append(message)
        self._arrived.set()
