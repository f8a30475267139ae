"""Ctrl-C while an answer comes: the first stops the answer, a later one the program."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from app.cli.front import GenerationLike


class Interrupts:
    """Passes the first interrupt on to a generation, as soon as there is one."""

    def __init__(self) -> None:
        self.happened = False
        self._generation: GenerationLike | None = None

    def attach(self, generation: GenerationLike) -> None:
        """From now on an interrupt cancels ``generation``; one that already came does so at once."""
        self._generation = generation
        if self.happened:
            generation.cancel()

    def interrupt(self) -> None:
        """What the first Ctrl-C does."""
        self.happened = True
        if self._generation is not None:
            # In a thread: the interrupted code may hold the very lock that cancel() needs.
            threading.Thread(target=self._generation.cancel, name="cancel", daemon=True).start()


class NoReaction(KeyboardInterrupt):
    """Interrupted again, long after an interrupt that nothing reacted to."""


@contextmanager
def interrupts_cancel(
    patience_seconds: float = 0.0, announce: Callable[[], None] = lambda: None
) -> Iterator[Interrupts]:
    """While this holds, the first SIGINT cancels the attached generation; a later one raises NoReaction.

    One that comes within ``patience_seconds`` of the first only calls ``announce``, in the signal handler.
    The cancelled generation ends by itself, with a FinishedEvent whose reason is ``cancelled``. Outside the
    main thread, where Python delivers no signals, interrupts are left alone.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    first: float | None = None

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            interrupts.interrupt()
        elif time.monotonic() - first >= patience_seconds:
            raise NoReaction
        else:
            announce()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
