"""The picture process: decodes one picture, its standard input, and ends.

A file can be made to crash a decoder, to keep it busy, or to fill the memory. This process is small, has
little time and nothing to lose. It imports nothing of ours, to start quickly.
"""

from __future__ import annotations

import os
import struct
import sys
import warnings
from typing import TYPE_CHECKING, Final

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from PIL import Image

MOST_WIDTH: Final = 100
MOST_HEIGHT: Final = 40
"""Of what is shown, in pixels: a cell is one wide and two high."""
MOST_PIXELS: Final = 25_000_000
"""Of the file."""
MEMORY_BYTES: Final = 512 << 20
"""Address space beyond what the process has when Pillow is there: the largest picture five times."""
CPU_SECONDS: Final = 10
NEEDED: Final = "shown where localq[images] is installed"
FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP")

PICTURE: Final = b"P"
"""``SIZE`` and the pixels, a byte each of red, green and blue."""
REASON: Final = b"R"
"""Why there is none; ASCII, for people."""
SIZE: Final = struct.Struct("<HH")


class _Refused(Exception):
    pass


def main() -> int:
    """From standard input to standard output."""
    kind, body = _answer()
    sys.stdout.buffer.write(kind + body)
    return 0


def _answer() -> tuple[bytes, bytes]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        return REASON, NEEDED.encode()
    try:
        _confine()
        return PICTURE, _decoded()
    except _Refused as refused:
        return REASON, str(refused).encode()
    except MemoryError:
        return REASON, b"decoding it takes too much memory"
    except Image.DecompressionBombError:
        return REASON, f"more than {MOST_PIXELS // 1_000_000} megapixels".encode()
    except UnidentifiedImageError:
        return REASON, b"not a PNG, JPEG, GIF or WebP"
    except Exception:  # whatever a decoder makes of a broken file
        return REASON, b"the file is damaged"


def _confine() -> None:
    """Gives up for good what no decoder needs."""
    if sys.platform == "win32":
        return
    os.nice(10)  # an answer that is being written comes first
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CPU: CPU_SECONDS}
    if (mapped := _mapped_bytes()) is not None:
        limits[resource.RLIMIT_AS] = mapped + MEMORY_BYTES
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _mapped_bytes() -> int | None:
    """Address space of this process; None where the kernel does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  pathlib costs an import
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return None


def _decoded() -> bytes:
    """The first frame, upright, in as many pixels as are shown, never in more than it has."""
    from PIL import Image, ImageOps

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is looked at here
    with os.fdopen(0, "rb", closefd=False) as file, Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            most = MOST_PIXELS // 1_000_000
            raise _Refused(f"{width * height / 1e6:.0f} megapixels, more than {most}")
        lying = image.getexif().get(0x0112, 1) > 4
        room = (MOST_HEIGHT, MOST_WIDTH) if lying else (MOST_WIDTH, MOST_HEIGHT)
        image.draft(None, (2 * room[0], 2 * room[1]))  # of a JPEG, no more detail than is wanted
        plain = image.convert("RGB") if image.mode in ("L", "RGB", "CMYK") else _on_white(image)
        plain.thumbnail(room, Image.Resampling.BOX)
        plain = ImageOps.exif_transpose(plain)
    return SIZE.pack(*plain.size) + plain.tobytes()


def _on_white(image: Image.Image) -> Image.Image:
    """A picture with transparent parts, as on the pages that most are made for."""
    from PIL import Image

    if image.mode.startswith("I"):  # grey of sixteen bits
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    opaque = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")


if __name__ == "__main__":
    sys.exit(main())
