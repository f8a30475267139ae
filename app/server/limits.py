"""Bounds that keep one client, or one request, from taking what belongs to all."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The defaults suit one machine with a few users."""

    body_bytes: int = 8 << 20
    header_bytes: int = 32 << 10
    headers: int = 100
    header_seconds: float = 10.0
    """From the first byte of a request, or the opening of a connection, to the end of its headers."""
    body_seconds: float = 30.0
    stall_seconds: float = 60.0
    """A reader that takes nothing for so long is cut off."""
    keep_alive_seconds: float = 75.0
    connections: int = 2048
    waiting: int = 64
    """Requests that wait for their turn; the next one is told to come again."""
    buffered_events: int = 8192
    """Of one answer, for a reader that is slower than the model."""
    drain_seconds: float = 15.0
    """What answers have to end in when the server is told to end."""
    inputs: int = 2048
    """Texts of one request for vectors."""
