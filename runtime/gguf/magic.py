"""The first eight bytes: a little-endian GGUF of version 2 or 3, or a name for what the file is instead."""

from __future__ import annotations

from typing import Final

from runtime.errors import GgufError
from runtime.gguf.source import Source

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)

_CONVERT = "; convert the original model again with a current converter"

_OTHERS: Final = (
    (b"FUGG", "big-endian", "is a big-endian GGUF; this machine needs a little-endian one"),
    (b"lmgg", "old-format", "is in the GGML format of before August 2023" + _CONVERT),
    (b"fmgg", "old-format", "is in the GGMF format of before August 2023" + _CONVERT),
    (b"tjgg", "old-format", "is in the GGJT format of before August 2023" + _CONVERT),
    (b"algg", "old-format", "is a GGLA adapter of before August 2023" + _CONVERT),
    (b"GGML", "old-format", "is in the GGML format of before August 2023" + _CONVERT),
    (b"GGJT", "old-format", "is in the GGJT format of before August 2023" + _CONVERT),
    (b"PK\x03\x04", "other-format", "is a ZIP archive (or a PyTorch checkpoint), not a GGUF"),
    (b"\x7fELF", "other-format", "is a program, not a GGUF"),
    (b"MZ", "other-format", "is a program (or a llamafile), not a GGUF"),
    (b"\x80", "other-format", "is a Python pickle, which localq never opens"),
    (b"\x1f\x8b", "other-format", "is a gzip archive; unpack it first"),
    (b"version ", "other-format", "is a Git LFS pointer, not the model itself; fetch it with `git lfs pull`"),
    (b"<!DOCTYP", "other-format", "is a web page, not a GGUF: the download went wrong"),
)


def read_version(source: Source) -> int:
    """Reads magic and version; raises :class:`GgufError` naming what the file is, if not a GGUF we read."""
    start = source.take(min(8, source.size), "the magic")
    if start[:4] != MAGIC:
        for prefix, rule, reason in _OTHERS:
            if start.startswith(prefix):
                raise source.refuse(rule, reason)
        if MAGIC.startswith(start[:4]):
            raise source.refuse("truncated", f"ends after {len(start)} bytes, inside the GGUF magic")
        raise source.refuse("bad-magic", f"is not a GGUF: it starts with the bytes {start[:4].hex(' ')}")
    if len(start) < 8:
        raise source.refuse("truncated", f"ends after {len(start)} bytes, inside the GGUF version")
    version = int.from_bytes(start[4:], "little")
    if version in VERSIONS:
        return version
    if int.from_bytes(start[4:], "big") <= 0xFFFF and version:
        raise GgufError(
            source.path, "big-endian", "is a big-endian GGUF; this machine needs a little-endian one"
        )
    raise source.refuse(
        "version",
        f"is a GGUF of version {version}; versions 2 and 3 are read"
        + (_CONVERT if version < 2 else "; a newer localq may read it"),
    )
