"""Reading the merges of a byte-pair vocabulary: half a million short strings, each two parts and a space.

llama.cpp reads a text up to its first NUL and parts it at the first space behind its first byte. Whether both
parts are tokens is left to it: a merge of unknown parts is never applied.
"""

from __future__ import annotations

import re
from functools import cache

from runtime.gguf import limits
from runtime.gguf.source import Source

_LONGEST = 2 * limits.TOKEN_BYTES + 1
_ZEROS = bytes(7)


@cache
def _pattern() -> re.Pattern[bytes]:
    """Matches as many well-formed merges of 3 to 127 bytes, with their length fields, as stand in a row.

    One branch a length: ``re`` then walks the array in C, ten times as fast as a loop over the length fields.
    The text holds no NUL, so the seven zero bytes of each length field count the merges.
    """
    branches = (
        re.escape(bytes([length])) + rb"\0{7}(?=[^\0][^ \0]{0,%d} )[^\0]{%d}" % (length - 3, length)
        for length in range(3, 128)
    )
    return re.compile(rb"(?:" + b"|".join(branches) + rb")*+", re.DOTALL)


def read_merges(source: Source, key: str, count: int) -> None:
    """Walks over the ``count`` merges at the source's position. Raises :class:`GgufError` (``bad-merge``)."""
    index = 0
    at_end = False
    while index < count:
        start = source.position
        walked = 0 if at_end else source.skim(_pattern()).count(_ZEROS)
        if walked > count - index:  # bytes behind the array look like merges too
            source.seek(start)
            walked = 0
            at_end = True
        index += walked
        if index < count:
            _read_one(source, key, index)
            index += 1


def _read_one(source: Source, key: str, index: int) -> None:
    length = source.u64(f"merge {index} of {key}")
    if length > _LONGEST:
        raise source.refuse(
            "bad-merge", f"merge {index} of {key} has {length} bytes; at most {_LONGEST} are accepted"
        )
    text = source.take(length, f"merge {index} of {key}")
    if not 0 < text.find(b" ", 1) < length - 1 or b"\0" in text:
        raise source.refuse(
            "bad-merge", f"merge {index} of {key} is {text[:80]!r}, not two parts and a space"
        )
