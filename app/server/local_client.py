"""Asking a server of this machine, with the token that it left for its owner."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from app.errors import ServerUnreachable
from app.server.running import RunningServer

SECONDS = 5.0


def ask(server: RunningServer, method: str, path: str, body: Any = None, seconds: float = SECONDS) -> Any:
    """The JSON of an answer to ``body``. Raises ServerUnreachable."""
    connection = connect(server, seconds)
    try:
        response = send(connection, server, method, path, body)
        answer = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServerUnreachable(server.url, str(error)) from None
    finally:
        connection.close()
    require_success(server, response.status, answer)
    return answer


def events(
    connection: http.client.HTTPConnection, server: RunningServer, path: str, body: Any
) -> Iterator[Any]:
    """The documents of a stream of events as they come, up to its end. The caller closes ``connection``.

    Raises ServerUnreachable, also where the stream ends before it said that it would.
    """
    try:
        response = send(connection, server, "POST", path, body)
        if response.status != 200:
            require_success(server, response.status, json.loads(response.read()))
        for line in response:
            name, _, data = line.decode("utf-8").rstrip("\r\n").partition(": ")
            if name != "data":
                continue
            if data == "[DONE]":
                return
            document = json.loads(data)
            if "error" in document:
                require_success(server, 500, document)
            yield document
    except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
        raise ServerUnreachable(server.url, str(error) or type(error).__name__) from None
    raise ServerUnreachable(server.url, "it ended in the middle of an answer")


def connect(server: RunningServer, seconds: float) -> http.client.HTTPConnection:
    """A connection that waits so long for each piece of an answer; it is not open yet."""
    parts = urlsplit(server.url)
    host, port = parts.hostname or "127.0.0.1", parts.port
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=seconds)
    # The process is known by its number and its file; its certificate may be of any name.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=seconds, context=context)


def send(
    connection: http.client.HTTPConnection, server: RunningServer, method: str, path: str, body: Any
) -> http.client.HTTPResponse:
    """The head of an answer."""
    headers = {"authorization": f"Bearer {server.token}", "content-type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    return connection.getresponse()


def require_success(server: RunningServer, status: int, answer: Any) -> None:
    """Raises ServerUnreachable with what the server says is wrong."""
    if status != 200:
        fault = answer.get("error") if isinstance(answer, dict) else None
        message = fault.get("message", status) if isinstance(fault, dict) else status
        raise ServerUnreachable(server.url, str(message))
