"""Who may go on now, who waits, and who is told to come again.

A model works on a bounded number of requests; the others wait here, clients in turn, so that one that asks
for a hundred answers does not keep the others from theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator

from app.server.errors import Refusal

SMOOTHING = 0.2


class Admission:
    """Counts what waits in the whole server, and says when that is too much."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.waiting = 0
        self.running = 0
        self.shed = 0
        self.seconds = 1.0
        """How long a request runs, as an average."""

    def check(self) -> None:
        """Raise Refusal where no more may wait."""
        if self.waiting >= self._limit:
            self.shed += 1
            raise Refusal(
                429,
                f"{self.waiting} requests are waiting, which is the limit; try again later",
                code="overloaded",
                retry_seconds=self.retry_seconds(),
            )

    def retry_seconds(self) -> int:
        """When there may be room again: half of those that wait have gone on."""
        return max(1, min(60, round(self.seconds * self.waiting / (2 * max(1, self.running)))))

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        """Count as one that waits. Raises Refusal."""
        self.check()
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def ran(self, seconds: float) -> None:
        """Learn how long a request took."""
        self.seconds += SMOOTHING * (seconds - self.seconds)


class Gate:
    """Lets ``width`` requests of one model through at a time; clients take turns, each first come, first
    served."""

    def __init__(self, width: int, admission: Admission) -> None:
        self._width = width
        self._admission = admission
        self._inside = 0
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def enter(self, client: str) -> AsyncIterator[None]:
        """Wait for one's turn, and have it. Raises Refusal when too many wait."""
        if self._inside < self._width and not self._queues:
            self._inside += 1
        else:
            with self._admission.wait():
                await self._queue(client)
        started = time.monotonic()
        self._admission.running += 1
        try:
            yield
        finally:
            self._admission.running -= 1
            self._admission.ran(time.monotonic() - started)
            self._leave()

    async def _queue(self, client: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # the turn had come already: the next one gets it
            else:
                self._forget(client, turn)
            raise

    def _leave(self) -> None:
        while self._queues:
            client, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._queues[client] = queue  # behind the other clients
            if not turn.done():
                turn.set_result(None)
                return
        self._inside -= 1

    def _forget(self, client: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(client)
        if queue is not None:
            with contextlib.suppress(ValueError):
                queue.remove(turn)
            if not queue:
                del self._queues[client]
