"""Requests as bytes, for what no client would send."""

from __future__ import annotations

import contextlib
import socket

from tests.app.server_process import ServerProcess


def talk(server: ServerProcess, sent: bytes, timeout: float = 20.0) -> bytes:
    """Send bytes; what comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout) as connection:
        received = b""
        with contextlib.suppress(ConnectionError):  # it may be refused before all of it is sent
            connection.sendall(sent)
        try:
            while data := connection.recv(65536):
                received += data
        except (TimeoutError, ConnectionResetError):
            pass
        return received


def head(server: ServerProcess, *lines: str, method: str = "GET", path: str = "/health") -> bytes:
    """A request's head, with our Host unless ``lines`` bring one."""
    if not any(line.lower().startswith("host:") for line in lines):
        lines = (f"Host: 127.0.0.1:{server.port}", *lines)
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Connection: close", *lines, "", ""]).encode("latin-1")


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])
