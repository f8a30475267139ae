"""How fast bytes come, over the last seconds, and how long the rest will take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_SECONDS = 8.0
LEAST_SECONDS = 0.5


class Pace:
    """Bytes a second of something that is told how far it is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def at(self, done: int) -> None:
        """``done`` bytes are done now; the first call says where it began."""
        now = self._clock()
        if self._seen and now == self._seen[-1][0]:
            self._seen[-1] = now, done
        else:
            self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def bytes_per_second(self) -> float | None:
        """None while too little has been seen."""
        if len(self._seen) < 2:
            return None
        (began, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - began) if now - began >= LEAST_SECONDS and last > first else None

    def seconds_left(self, total: int) -> float | None:
        """Until ``total`` bytes are done; None while nobody knows."""
        speed = self.bytes_per_second
        return (total - self._seen[-1][1]) / speed if speed else None
