"""From ASGI to a route's function and back: the body read and checked, the answer written, the client
watched."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from app.server.errors import Refusal, refusal_of
from app.server.service import Service

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

JSON = "application/json"
encoder = msgspec.json.Encoder()


class ClientLeft(Exception):
    """The client closed the connection before its answer was over."""


@dataclass
class Call:
    """One request: whose it is, and what its route may use."""

    service: Service
    client: str
    """Whom it is from, for taking turns: a name of a key, or an address."""
    path: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """For the answer."""


@dataclass(frozen=True)
class Stream:
    """An answer of server-sent events: frames as they come. ``fault`` makes the last one of an error.

    ``close`` frees what the answer holds, also when no frame was ever asked for.
    """

    frames: AsyncGenerator[bytes, None]
    fault: Callable[[Refusal], bytes]
    close: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Plain:
    """An answer that is no JSON."""

    body: bytes
    content_type: str


Reply: TypeAlias = msgspec.Struct | Stream | Plain
Handler: TypeAlias = Callable[..., Awaitable[Reply]]


@dataclass(frozen=True)
class Endpoint:
    """One operation. ``request``, ``answer`` and ``event`` are the types of its body, its answer, its stream.

    ``public``: it needs no key, and answers while the server ends. ``waits``: it takes turns at a model, and
    is refused where too many wait.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    request: Any = None
    answer: Any = None
    event: Any = None
    public: bool = False
    waits: bool = False
    fault: Callable[[Refusal], msgspec.Struct] = Refusal.body
    errors: tuple[int, ...] = (400, 401, 403, 404, 413, 429, 503)


class Operation:
    """An endpoint as an ASGI application."""

    def __init__(self, endpoint: Endpoint, service: Service) -> None:
        self.endpoint = endpoint
        self._service = service
        self._decoder = msgspec.json.Decoder(endpoint.request) if endpoint.request is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, endpoint = self._service, self.endpoint
        started = time.monotonic()
        sender = Sender(send, service.limits.stall_seconds)
        service.active += 1
        task = asyncio.current_task()
        if task is not None:
            service.tasks.add(task)
        try:
            await self._answer(scope, receive, sender)
        except Refusal as refusal:
            await sender.refuse(refusal, endpoint.fault)
        except ClientLeft:
            sender.status = sender.status or 499
        finally:
            service.active -= 1
            service.tasks.discard(task)
            service.metrics.requests.labels(endpoint.path, str(sender.status or 499)).inc()
            service.metrics.seconds.labels(endpoint.path).observe(time.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, sender: Sender) -> None:
        service, endpoint = self._service, self.endpoint
        if service.draining and not endpoint.public:
            raise Refusal(
                503, "the server is shutting down", code="shutting_down", retry_seconds=5, close=True
            )
        call = Call(service, scope.get("localq.client", ""), dict(scope.get("path_params", {})))
        arguments: list[Any] = [call]
        if self._decoder is not None:
            limits = service.limits
            body = await read_body(scope, receive, limits.body_bytes, limits.body_seconds)
            if endpoint.waits:
                service.admission.check()  # read, since a connection that closes on a body loses the answer
            arguments.append(decode(self._decoder, body))
        work = asyncio.ensure_future(self._work(call, arguments, sender))
        watch = asyncio.ensure_future(client_leaves(receive))
        try:
            await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                raise ClientLeft
            work.result()
        except asyncio.CancelledError:
            # The server ends: what still runs is told, and then stopped.
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await work
            refusal = Refusal(503, "the server is shutting down", code="shutting_down", close=True)
            await sender.break_off(refusal, endpoint.fault)
        finally:
            watch.cancel()

    async def _work(self, call: Call, arguments: list[Any], sender: Sender) -> None:
        try:
            reply = await self.endpoint.handler(*arguments)
            if isinstance(reply, Stream):
                await sender.stream(reply, call.headers)
            elif isinstance(reply, Plain):
                await sender.whole(200, reply.body, reply.content_type, call.headers)
            else:
                await sender.whole(200, encoder.encode(reply), JSON, call.headers)
        except (Refusal, ClientLeft):
            raise
        except Exception as error:
            raise refusal_of(error) from error


class Sender:
    """Writes one answer; a reader that takes nothing for ``stall_seconds`` is given up."""

    def __init__(self, send: Send, stall_seconds: float) -> None:
        self._send = send
        self._stall = stall_seconds
        self._stream: Stream | None = None
        self.status = 0
        self.ended = False

    async def whole(self, status: int, body: bytes, content_type: str, headers: dict[str, str]) -> None:
        """An answer at once."""
        await self._begin(status, content_type, headers, len(body))
        await self._write(body, more=False)

    async def stream(self, stream: Stream, headers: dict[str, str]) -> None:
        """Frames as they come. An error before the first is an answer of its own, later it is a frame."""
        self._stream = stream
        frames = stream.frames
        try:
            first = await anext(frames, b"")
            await self._begin(
                200, "text/event-stream; charset=utf-8", headers | {"cache-control": "no-cache"}
            )
            await self._write(first)
            try:
                async for frame in frames:
                    await self._write(frame)
            except (Refusal, ClientLeft):
                raise
            except Exception as error:
                await self._write(stream.fault(refusal_of(error)))
            await self._write(b"", more=False)
        finally:
            await frames.aclose()
            await stream.close()

    async def refuse(self, refusal: Refusal, fault: Callable[[Refusal], msgspec.Struct]) -> None:
        """An error instead of an answer, if none has begun."""
        if self.status:
            await self.break_off(refusal, fault)
            return
        headers = {}
        if refusal.retry_seconds is not None:
            headers["retry-after"] = str(refusal.retry_seconds)
        if refusal.close:
            headers["connection"] = "close"
        if refusal.status == 401:
            headers["www-authenticate"] = "Bearer"
        await self.whole(refusal.status, encoder.encode(fault(refusal)), JSON, headers)

    async def break_off(self, refusal: Refusal, fault: Callable[[Refusal], msgspec.Struct]) -> None:
        """End what has begun, with an error where the form of the answer has a place for it."""
        if not self.status:
            await self.refuse(refusal, fault)
        elif self._stream is not None and not self.ended:
            with contextlib.suppress(Exception):
                await self._write(self._stream.fault(refusal))
                await self._write(b"", more=False)

    async def _begin(
        self, status: int, content_type: str, headers: dict[str, str], length: int | None = None
    ) -> None:
        lines = [(b"content-type", content_type.encode()), *COMMON_HEADERS]
        if length is not None:
            lines.append((b"content-length", str(length).encode()))
        lines += [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        self.status = status
        await self._pass({"type": "http.response.start", "status": status, "headers": lines})

    async def _write(self, body: bytes, *, more: bool = True) -> None:
        self.ended = not more
        await self._pass({"type": "http.response.body", "body": body, "more_body": more})

    async def _pass(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._stall):
                await self._send(message)
        except (TimeoutError, OSError):
            raise ClientLeft from None


COMMON_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Nothing here is for a page on another origin."""


async def read_body(scope: Scope, receive: Receive, limit: int, seconds: float) -> bytes:
    """The whole body. Raises Refusal for one that is too long or too slow, ClientLeft."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limit:
                    raise too_long(limit)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise Refusal(
            408, f"the body did not come within {seconds:g} s", code="timeout", close=True
        ) from None


def too_long(limit: int) -> Refusal:
    """The error of a body that is too long."""
    return Refusal(413, f"the body is longer than {limit} bytes", code="body_too_long", close=True)


def decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """The request in a body. Raises Refusal for what is no JSON, and for a wrong shape."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise refusal_of(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, f"the body is not JSON that can be read: {error}", code="invalid_json") from None


async def client_leaves(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def frame(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + encoder.encode(value) + b"\n\n"


def named_frames(events: Iterable[Any]) -> bytes:
    """Events as Anthropic's wire and the responses have them: with their ``type`` in a line of its own."""
    return b"".join(
        b"event: " + event.type.encode() + b"\ndata: " + encoder.encode(event) + b"\n\n" for event in events
    )


DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": waiting\n\n"
