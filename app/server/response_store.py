"""Responses that are kept for the next request of a conversation, in memory, oldest out first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import msgspec

from app.server.errors import Refusal
from app.server.schemas.responses import Response

MOST_BYTES = 64 << 20
MOST = 1024


@dataclass(frozen=True)
class Kept:
    """A response, and the items of its whole conversation before it. ``client`` may read it, nobody else."""

    response: Response
    items: list[dict[str, Any]]
    client: str
    nbytes: int


class ResponseStore:
    """For the loop's thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._nbytes = 0

    def keep(self, response: Response, items: list[dict[str, Any]], client: str) -> None:
        """Keep a response; old ones make room."""
        nbytes = len(msgspec.json.encode(response)) + len(msgspec.json.encode(items))
        self._kept[response.id] = Kept(response, items, client, nbytes)
        self._nbytes += nbytes
        while self._kept and (self._nbytes > MOST_BYTES or len(self._kept) > MOST):
            _, dropped = self._kept.popitem(last=False)
            self._nbytes -= dropped.nbytes

    def get(self, identifier: str, client: str) -> Kept:
        """A response of the same client. Raises Refusal."""
        kept = self._kept.get(identifier)
        if kept is None or kept.client != client:
            raise Refusal(
                404, f"there is no response {identifier[:80]!r} (any more)", code="response_not_found",
                param="response_id",
            )  # fmt: skip
        self._kept.move_to_end(identifier)
        return kept

    def delete(self, identifier: str, client: str) -> None:
        """Forget a response. Raises Refusal."""
        self._nbytes -= self.get(identifier, client).nbytes
        del self._kept[identifier]
