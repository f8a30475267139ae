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


class Channel(Generic[Incoming]):
    """One end of the socket pair. ``send`` may be called from any thread, ``receive`` from one.

    ``incoming`` is the union of message types that the other end sends.
    """

    def __init__(self, connection: socket.socket, incoming: object) -> None:
        self._socket = connection
        self._decoder = msgspec.msgpack.Decoder(list[incoming])  # type: ignore[valid-type]
        self._encoder = msgspec.msgpack.Encoder()
        self._send_lock = threading.Lock()
        self._received = bytearray()

    def send(self, messages: Sequence[msgspec.Struct]) -> None:
        """Send one frame. Raises OSError when the other end is gone, ValueError when it is too large."""
        body = self._encoder.encode(messages)
        if len(body) > MAX_FRAME_BYTES:
            raise ValueError(f"a message of {len(body)} bytes exceeds the frame limit of {MAX_FRAME_BYTES}")
        with self._send_lock:
            self._socket.sendall(LENGTH.pack(len(body)) + body)

    def receive(self) -> list[Incoming] | None:
        """The messages of the next frame, or None at the end of the stream (also inside a frame)."""
        head = self._take(LENGTH.size)
        body = None if head is None else self._take(*LENGTH.unpack(head))
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
