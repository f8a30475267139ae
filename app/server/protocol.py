"""HTTP/1.1 over uvicorn's h11 protocol, with a deadline for headers and errors in the form of all others."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.server.endpoint import JSON, encoder
from app.server.errors import Refusal
from app.server.limits import Limits


class Protocol(H11Protocol):
    """A connection that sends no whole request head in ``header_seconds`` is closed.

    uvicorn itself waits for ever: some hundred half requests would hold all descriptors.
    """

    header_seconds = Limits.header_seconds

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self.access_log = False  # a line with a path and a client of every request is not ours to write

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._unset_keepalive_if_required()  # the next request has begun already
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """In place of uvicorn's plain text."""
        body = encoder.encode(Refusal(400, msg, code="invalid_http").body())
        headers = [
            (b"content-type", JSON.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (
                h11.Response(status_code=400, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _watch(self) -> None:
        """Set the deadline while a head is awaited, and only then."""
        reading_head = (
            self.cycle is None or self.cycle.response_complete
        ) and not self.transport.is_closing()
        if not reading_head:
            self._forget()
        elif self._deadline is None and self.timeout_keep_alive_task is None:
            self._deadline = self.loop.call_later(self.header_seconds, self._late)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()


def with_limits(limits: Limits) -> type[Protocol]:
    """The protocol of a server; uvicorn makes an instance of it for every connection."""
    return type("Protocol", (Protocol,), {"header_seconds": limits.header_seconds})
