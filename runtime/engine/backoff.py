"""How long to wait before a worker that keeps dying is started again."""

from __future__ import annotations

FREE_DEATHS = 1
FIRST_SECONDS = 0.25
LONGEST_SECONDS = 10.0


class Backoff:
    """The first death costs nothing; each further one without a finished request doubles the wait."""

    def __init__(self) -> None:
        self._deaths = 0

    def died(self) -> None:
        """The worker died."""
        self._deaths += 1

    def worked(self) -> None:
        """A request was finished: the worker is sound."""
        self._deaths = 0

    @property
    def seconds(self) -> float:
        """The wait before the next start."""
        extra = self._deaths - FREE_DEATHS
        return min(FIRST_SECONDS * 2.0 ** (extra - 1), LONGEST_SECONDS) if extra > 0 else 0.0
