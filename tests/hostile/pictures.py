"""Pictures that were made to do harm, and what must be said of each instead of showing it.

| id | what | refused because |
|---|---|---|
| P01 | a PNG cut short | the file is damaged |
| P02 | a JPEG cut short | the file is damaged |
| P03 | a PNG whose header says 65,500 x 65,500 | the pixels are counted before any is decoded |
| P04 | a PNG of 36 megapixels of one colour, half a megabyte | likewise |
| P05 | a GIF whose frame is far outside of its screen | its pixels are counted too |
| P06 | a PNG with a comment that unpacks to 64 MB | the file is damaged |
| P07 | a WebP whose chunk says that it is 4 GB | the file is damaged |
| P08 | a text called .png | it is not one |
| P09 | a TIFF, which has decoders enough of its own | it is not one of the four formats |
| P10 | a file without a byte | it is not one |
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from functools import cache

from PIL import Image


def png(width: int, height: int, rows: bytes, *extra: tuple[bytes, bytes], colour: int = 2) -> bytes:
    """A PNG of eight bits a channel, by hand; ``rows`` are compressed as they are."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def small_png(pixels: Sequence[Sequence[tuple[int, int, int]]]) -> bytes:
    """These colours, row by row."""
    rows = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in pixels)
    return png(len(pixels[0]), len(pixels), zlib.compress(rows))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """A picture in a format of Pillow's."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def hostile_pictures() -> dict[str, tuple[bytes, str]]:
    """By id: the file, and a part of what is said of it."""
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    whole, photo = encoded(noise, "PNG"), encoded(noise, "JPEG")
    even = zlib.compressobj(1)
    plain = b"".join(even.compress(b"\0" * (1 + 3 * 6000)) for _ in range(6000)) + even.flush()
    comment = zlib.compressobj(1)
    said = b"".join(comment.compress(b" " * (1 << 20)) for _ in range(64)) + comment.flush()
    gif = bytearray(encoded(noise.convert("P"), "GIF"))
    at = gif.index(b"\x2c\0\0\0\0\x40\0\x40\0")
    gif[at + 1 : at + 9] = struct.pack("<HHHH", 60_000, 60_000, 5_535, 5_535)
    webp = bytearray(encoded(noise, "WEBP"))
    webp[16:20] = b"\xff\xff\xff\xff"
    return {
        "P01": (whole[: len(whole) // 2], "the file is damaged"),
        "P02": (photo[: len(photo) // 2], "the file is damaged"),
        "P03": (png(65_500, 65_500, zlib.compress(b"\0" * 100)), "more than 25 megapixels"),
        "P04": (png(6000, 6000, plain), "36 megapixels, more than 25"),
        "P05": (bytes(gif), "more than 25 megapixels"),
        "P06": (
            png(1, 1, zlib.compress(b"\0\1\2\3"), (b"zTXt", b"Comment\0\0" + said)),
            "the file is damaged",
        ),
        "P07": (bytes(webp), "the file is damaged"),
        "P08": (b"It is raining.\n" * 50, "not a PNG, JPEG, GIF or WebP"),
        "P09": (encoded(noise, "TIFF"), "not a PNG, JPEG, GIF or WebP"),
        "P10": (b"", "not a PNG, JPEG, GIF or WebP"),
    }
