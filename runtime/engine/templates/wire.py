"""What the front and its template process say to each other, and the limits that both hold.

A frame is a u32 length (little endian) and that many bytes. Requests are JSON (``{"source", "context",
"now"}``, or ``{"source", "describe": true}``); a reply is one byte, its kind, and its payload. JSON rather
than msgpack, because the child then needs nothing but jinja2 and the standard library.
"""

from __future__ import annotations

import struct
from typing import IO, Final

LENGTH: Final = struct.Struct("<I")

TEXT: Final = b"T"
"""The rendered text, UTF-8."""
NAMES: Final = b"N"
"""A JSON list: the variables that a template reads."""
FAILURE: Final = b"F"
"""A template failed; a text for people."""
MEMORY: Final = b"M"
"""A template wanted more memory than it may have."""
READY: Final = b"R"
"""The process is up and confined."""
BROKEN: Final = b"B"
"""The process cannot work at all; a text for people."""

MAX_SOURCE_BYTES: Final = 1 << 20
MAX_REQUEST_CHARACTERS: Final = 4 << 20
"""A conversation with its tools, as JSON: some million tokens of English."""
MAX_OUTPUT_CHARACTERS: Final = 16 << 20
MAX_FRAME_BYTES: Final = 64 << 20
"""Of the child: sealed texts take three bytes a character."""
MEMORY_BYTES: Final = 224 << 20
"""Address space of the child beyond what it has when it is ready (25 MiB of it resident)."""
RENDER_SECONDS: Final = 1.0
"""Of the child's processor time, for one call: that a machine is busy makes no template late."""
WALL_SECONDS: Final = 15.0
"""By the clock, for one reply."""
CPU_SECONDS: Final = 2
"""The child's own limit for one request: it ends a busy child whose front is gone."""


def write_frame(stream: IO[bytes], body: bytes) -> None:
    """Raises OSError when the other end is gone."""
    stream.write(LENGTH.pack(len(body)))
    stream.write(body)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes | None:
    """The next frame, or None at the end of the stream. Raises OSError for a frame cut short or too long."""
    head = stream.read(LENGTH.size)
    if not head:
        return None
    if len(head) < LENGTH.size:
        raise OSError("a frame ends in its length")
    (length,) = LENGTH.unpack(head)
    if length > MAX_FRAME_BYTES:
        raise OSError(f"a frame of {length} bytes exceeds {MAX_FRAME_BYTES}")
    body = stream.read(length)
    if len(body) < length:
        raise OSError(f"a frame of {length} bytes ends after {len(body)}")
    return body
