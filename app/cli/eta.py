"""How long something will still take, at its pace so far."""

from __future__ import annotations

import time
from collections.abc import Callable

from app.cli.text import format_duration

LEAST_SECONDS, LEAST_SHARE = 3.0, 0.02
"""That must have passed, and been done, before anything is told."""


class Eta:
    """Begins with the first share of the work that it hears of, which may have been done before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None

    def after(self, share: float) -> str:
        """``, 3:12 min left`` when ``share`` (0 to 1) is done; empty while that cannot be told."""
        if self._first is None:
            self._first = self._clock(), share
        began, first = self._first
        seconds, done = self._clock() - began, share - first
        if seconds < LEAST_SECONDS or done < LEAST_SHARE:
            return ""
        return left(seconds / done * (1 - share))


def left(seconds: float | None) -> str:
    """``, 3:12 min left``; empty where nobody knows."""
    return "" if seconds is None else f", {format_duration(seconds)} left"
