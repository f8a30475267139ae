"""Ctrl-C while an answer comes: the first stops the answer, the second the program."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
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


@contextmanager
def interrupts_cancel() -> Iterator[Interrupts]:
    """While this holds, the first SIGINT cancels the attached generation; a second raises KeyboardInterrupt.

    The cancelled generation ends by itself, with a FinishedEvent whose reason is ``cancelled``. Outside the
    main thread, where Python delivers no signals, interrupts are left alone.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupts.interrupt()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
