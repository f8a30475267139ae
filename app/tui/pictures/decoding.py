"""From an open file to a picture, by a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from app.tui.markdown.picture import Picture
from app.tui.pictures import process
from app.tui.pictures.opening import NoPicture

WALL_SECONDS: Final = 30.0
MOST_REASON: Final = 100


def decode(descriptor: int) -> Picture:
    """The picture in a file, in at most ``process.MOST_WIDTH`` by ``process.MOST_HEIGHT`` pixels.

    Blocks, for ``WALL_SECONDS`` at most. Raises NoPicture.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", process.__name__],
            stdin=descriptor,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoPicture(f"not decoded within {WALL_SECONDS:.0f} s") from None
    except OSError as error:
        raise NoPicture(f"no process to decode it: {os.strerror(error.errno or 0).lower()}") from None
    return read_reply(child.stdout)


def read_reply(reply: bytes) -> Picture:
    """What the process said. It may have fallen to the file, so none of it is believed. Raises NoPicture."""
    kind, body = reply[:1], reply[1:]
    if kind == process.REASON and len(body) <= MOST_REASON and body.isascii():
        raise NoPicture("".join(filter(str.isprintable, body.decode())))
    if kind == process.PICTURE and len(body) > process.SIZE.size:
        width, height = process.SIZE.unpack_from(body)
        pixels = body[process.SIZE.size :]
        fits = 0 < width <= process.MOST_WIDTH and 0 < height <= process.MOST_HEIGHT
        if fits and len(pixels) == 3 * width * height:
            return Picture(width, height, pixels)
    raise NoPicture("decoding it failed")
