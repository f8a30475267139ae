"""The application: every endpoint, behind the guard."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from app.server.endpoint import Endpoint, Operation, Receive, Scope, Send, Sender
from app.server.errors import Refusal
from app.server.guard import Access, App, Guard
from app.server.routes import (
    chat,
    completions,
    embeddings,
    health,
    messages,
    models,
    openapi,
    rerank,
    responses,
    tokenize,
)
from app.server.service import Service

ENDPOINTS: Sequence[Endpoint] = (
    *chat.ENDPOINTS,
    *completions.ENDPOINTS,
    *responses.ENDPOINTS,
    *messages.ENDPOINTS,
    *embeddings.ENDPOINTS,
    *rerank.ENDPOINTS,
    *models.ENDPOINTS,
    *tokenize.ENDPOINTS,
    *health.ENDPOINTS,
    *openapi.ENDPOINTS,
)

log = logging.getLogger("localq.server")


def build_app(service: Service, access: Access) -> App:
    """The ASGI application of one server."""
    routes = [
        Route(endpoint.path, Operation(endpoint, service), methods=[endpoint.method])
        for endpoint in ENDPOINTS
    ]
    return Guard(Errors(Router(routes, redirect_slashes=False), service), access, service.limits)


class Errors:
    """Turns what no operation caught into an answer: unknown paths, wrong methods, and our own bugs."""

    def __init__(self, app: App, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette raises for a wrong method only where it believes to be inside an application.
        scope["app"] = self
        sender = Sender(send, self._service.limits.stall_seconds)
        begun = False

        async def watched(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except HTTPException as error:
            code = {404: "unknown_path", 405: "method_not_allowed"}.get(error.status_code)
            where = f"{scope['method']} {scope['path'][:200]}"
            refusal = Refusal(error.status_code, f"there is no {where} here", code=code)
            await sender.refuse(refusal, Refusal.body)
        except Exception:
            log.exception("a bug in the server, at %s %s", scope["method"], scope["path"][:200])
            if not begun:
                await sender.refuse(
                    Refusal(500, "an internal error; the server's log says more", code="internal"),
                    Refusal.body,
                )
