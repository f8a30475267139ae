"""How long to wait before a worker that keeps dying is started again."""

from __future__ import annotations

import time

FREE_DEATHS = 1
FIRST_SECONDS = 0.25
LONGEST_SECONDS = 10.0


class Backoff:
    """The first death costs nothing; each further one without a finished request doubles the wait."""

    def __init__(self) -> None:
        self._deaths = 0
        self._last_death = 0.0

    def died(self) -> None:
        """The worker died, or could not load its model."""
        self._deaths += 1
        self._last_death = time.monotonic()

    def worked(self) -> None:
        """A request was finished: the worker is sound."""
        self._deaths = 0

    @property
    def seconds(self) -> float:
        """The wait before the next start."""
        extra = self._deaths - FREE_DEATHS
        if extra <= 0:
            return 0.0
        pause = min(FIRST_SECONDS * 2.0 ** min(extra - 1, 16), LONGEST_SECONDS)
        return max(0.0, self._last_death + pause - time.monotonic())
