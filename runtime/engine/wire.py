"""Frames of typed messages over a stream socket.

A frame is a u32 length (little endian) and the msgpack of a list of messages: what one step of the worker has
to say to its requests travels in one write.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 256 << 20
READ_BYTES = 1 << 18

Incoming = TypeVar("Incoming")


def encode(messages: Sequence[msgspec.Struct]) -> bytes:
    """A frame. Raises UnicodeEncodeError for lone surrogates, OverflowError for integers beyond 64 bits."""
    body = msgspec.msgpack.encode(messages)
    return LENGTH.pack(len(body)) + body


class Channel(Generic[Incoming]):
    """One end of the socket pair. ``send`` may be called from any thread, ``receive`` from one.

    ``incoming`` is the union of message types that the other end sends.
    """

    def __init__(self, connection: socket.socket, incoming: object) -> None:
        self._socket = connection
        self._decoder = msgspec.msgpack.Decoder(list[incoming])  # type: ignore[valid-type]
        self._send_lock = threading.Lock()
        self._received = bytearray()

    def send(self, frame: bytes) -> None:
        """Send a frame made by :func:`encode`. Raises OSError when the other end is gone."""
        with self._send_lock:
            self._socket.sendall(frame)

    def receive(self) -> list[Incoming] | None:
        """The messages of the next frame, or None at the end of the stream (also inside a frame).

        Raises ValueError or msgspec.ValidationError for bytes that are no frame of these messages.
        """
        head = self._take(LENGTH.size)
        if head is None:
            return None
        (length,) = LENGTH.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {length} bytes exceeds the limit of {MAX_FRAME_BYTES}")
        body = self._take(length)
        if body is None:
            return None
        messages: list[Incoming] = self._decoder.decode(body)
        return messages

    def _take(self, count: int) -> bytes | None:
        """The next ``count`` bytes; None when the stream ends before."""
        while len(self._received) < count:
            try:
                data = self._socket.recv(READ_BYTES)
            except OSError:  # closed from this side
                return None
            if not data:
                return None
            self._received += data
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def close(self) -> None:
        """End the stream for both sides; a thread in ``receive`` gets None."""
        with contextlib.suppress(OSError):  # the other end was faster
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
