"""Asking a server of this machine, with the token that it left for its owner."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from app.errors import ServerUnreachable
from app.server.running import RunningServer

SECONDS = 5.0


def ask(server: RunningServer, method: str, path: str) -> Any:
    """The JSON of an answer. Raises ServerUnreachable."""
    parts = urlsplit(server.url)
    host, port = parts.hostname or "127.0.0.1", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # The process is known by its number and its file; its certificate may be of any name.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    try:
        headers = {"authorization": f"Bearer {server.token}", "content-type": "application/json"}
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServerUnreachable(server.url, str(error)) from None
    finally:
        connection.close()
    if response.status != 200:
        raise ServerUnreachable(server.url, str(answer.get("error", {}).get("message", response.status)))
    return answer
