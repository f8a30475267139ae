"""Who may ask at all, decided before anything is routed or read.

A browser will send requests to a loopback address for any page that asks it to. What a page can do is kept
from working here: a name that was bound to this address by DNS is not one of ours (Host), another origin is
refused (Origin, Sec-Fetch-Site), and a form's content types are not ours. There are no cookies, and no CORS
unless it was asked for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import TypeAlias

from app.server.endpoint import JSON, Message, Receive, Scope, Send, Sender
from app.server.errors import Refusal
from app.server.keys import KeyRing
from app.server.limits import Limits

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
PUBLIC = frozenset({"/health"})
"""Paths that need no key."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})


@dataclass(frozen=True)
class Access:
    """``port`` that is listened on; names that Host may have beside addresses; origins that pages may
    have."""

    port: int
    loopback: bool
    keys: KeyRing
    hosts: Collection[str] = ()
    origins: Collection[str] = ()


class Guard:
    """Wraps the application."""

    def __init__(self, app: App, access: Access, limits: Limits) -> None:
        self._app = app
        self._access = access
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sender = Sender(send, self._limits.stall_seconds)
        try:
            origin = self._check(scope)
        except Refusal as refusal:
            await sender.refuse(refusal, Refusal.body)
            return
        if origin is None:
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await sender.whole(204, b"", JSON, cors(origin) | PREFLIGHT)
        else:
            await self._app(scope, receive, with_headers(send, cors(origin)))

    def _check(self, scope: Scope) -> str | None:
        """The allowed origin that a request comes from, if it says one. Raises Refusal."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        if len(scope["headers"]) > self._limits.headers:
            raise Refusal(
                431, f"a request may have {self._limits.headers} headers", code="too_many_headers", close=True
            )
        self._check_host(headers.get(b"host", []))
        origin = self._check_origin(headers)
        self._check_framing(scope["method"], headers)
        preflight = origin is not None and scope["method"] == "OPTIONS"
        name = "" if preflight else self._check_key(scope["path"], headers)
        client = scope.get("client")
        scope["localq.client"] = name or (client[0] if client else "")
        return origin

    def _check_host(self, hosts: list[bytes]) -> None:
        if len(hosts) != 1 or not hosts[0]:
            raise Refusal(400, "a request needs one Host header", code="invalid_host", close=True)
        host = hosts[0].decode("latin-1").lower()
        if not self._is_ours(host):
            raise Refusal(
                403,
                f"this server is not called {host[:100]!r}; use its address, or start it with --allow-host",
                code="invalid_host",
                close=True,
            )

    def _is_ours(self, host: str) -> bool:
        access = self._access
        name, colon, port = host.rpartition(":")
        if not colon or (host.startswith("[") and host.endswith("]")):
            name, port = host, "80"
        if port not in (str(access.port), "443") and not (port == "80" and access.port == 80):
            return False
        if port == "443" and access.port != 443:
            return False
        if name in LOOPBACK or name in access.hosts:
            return True
        return not access.loopback and is_address(name)

    def _check_origin(self, headers: dict[bytes, list[bytes]]) -> str | None:
        origins = headers.get(b"origin", [])
        if origins:
            origin = origins[0].decode("latin-1")
            if len(origins) > 1 or origin not in self._access.origins:
                raise Refusal(
                    403,
                    f"pages of {origin[:100]!r} may not use this server; start it with --allow-origin",
                    code="invalid_origin",
                    close=True,
                )
            return origin
        site = headers.get(b"sec-fetch-site", [b"none"])
        if site != [b"none"] and site != [b"same-origin"]:
            raise Refusal(
                403, "pages of another site may not use this server", code="invalid_origin", close=True
            )
        return None

    def _check_framing(self, method: str, headers: dict[bytes, list[bytes]]) -> None:
        lengths = headers.get(b"content-length", [])
        if lengths and b"transfer-encoding" in headers:
            raise Refusal(
                400, "give Content-Length or Transfer-Encoding, not both", code="invalid_framing", close=True
            )
        if lengths and int(lengths[0]) > self._limits.body_bytes:
            raise Refusal(
                413,
                f"the body is longer than {self._limits.body_bytes} bytes",
                code="body_too_long",
                close=True,
            )
        if headers.get(b"content-encoding", [b"identity"]) != [b"identity"]:
            raise Refusal(415, "a compressed body is not read", code="unsupported_encoding", close=True)
        if method in BODILESS:
            return
        kind = headers.get(b"content-type", [b""])[0].decode("latin-1").lower()
        kind, _, parameters = kind.partition(";")
        charset = parameters.replace(" ", "").replace('"', "")
        if kind.strip() != JSON or charset not in ("", "charset=utf-8"):
            raise Refusal(
                415, "send JSON, with the header Content-Type: application/json",
                code="unsupported_media_type", close=True,
            )  # fmt: skip

    def _check_key(self, path: str, headers: dict[bytes, list[bytes]]) -> str:
        """The name of the key that a request brings; empty where none is needed."""
        keys = self._access.keys
        if not keys or path in PUBLIC:
            return ""
        given = headers.get(b"x-api-key", [b""])[0]
        scheme, _, bearer = headers.get(b"authorization", [b""])[0].partition(b" ")
        if scheme.lower() == b"bearer":
            given = bearer.strip()
        name = keys.find(given)
        if name is None:
            what = "a key is needed" if not given else "this key is not known"
            raise Refusal(
                401, f"{what}; send it as Authorization: Bearer KEY (localq key new makes one)",
                code="invalid_api_key", close=True,
            )  # fmt: skip
        return name


def is_address(name: str) -> bool:
    """Whether a host is an address, which no DNS can bind."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def cors(origin: str) -> dict[str, str]:
    """What an allowed origin's page needs to read an answer."""
    return {
        "access-control-allow-origin": origin,
        "vary": "Origin",
        "cross-origin-resource-policy": "cross-origin",
    }


PREFLIGHT = {
    "access-control-allow-methods": "GET, POST, DELETE",
    "access-control-allow-headers": "authorization, content-type, x-api-key, anthropic-version",
    "access-control-max-age": "600",
}


def with_headers(send: Send, headers: dict[str, str]) -> Send:
    """``send`` with more headers in the answer's start; they replace those of the same name."""

    async def passed(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            kept = [(name, value) for name, value in message["headers"] if name.decode() not in headers]
            message = {**message, "headers": [*kept, *ours]}
        await send(message)

    return passed
