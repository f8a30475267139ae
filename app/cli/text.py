"""How numbers and tables read in a terminal. Pure; what goes in must already be safe to print."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from runtime.units import format_bytes as format_bytes

_JOINERS = frozenset("\u200b\u200c\u200d\u2060\ufeff")
"""Zero width space, non-joiner, joiner, word joiner and its old form."""


def format_parameters(count: int) -> str:
    """``135M``, ``1.1B``: weights as people speak of them."""
    for limit, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= limit:
            value = count / limit
            return f"{value:.{0 if value >= 100 else 1}f}{unit}"
    return str(count)


def format_duration(seconds: float) -> str:
    """``45 s``, ``3:12 min``, ``1:05 h``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def shorten_digests(text: str) -> str:
    """``text`` with twelve digits of every SHA-256 in it."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1…", text)


def columns_of(text: str) -> int:
    """Terminal columns that ``text`` takes: marks and joiners none, wide and full-width characters two.

    East Asian Width as in UAX #11; the ambiguous ones count as narrow.
    """
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(char: str) -> int:
    if char in _JOINERS or unicodedata.category(char)[0] == "M":  # variation selectors are marks too
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def wrap(line: str, columns: int) -> list[str]:
    """``line`` in pieces of at most ``columns`` columns: between words, and within one longer than a line.

    Pieces after the first stand as far right as the line's own text does.
    """
    indent = line[: len(line) - len(line.lstrip(" "))]
    pieces: list[str] = []
    current = indent
    for word in line[len(indent) :].split(" "):
        joined = current + word if current == indent else f"{current} {word}"
        if columns_of(joined) > columns and current != indent:
            pieces.append(current)
            joined = indent + word
        while columns_of(joined) > columns and len(joined) > len(indent) + 1:
            end = _fitting(joined, columns, len(indent) + 1)
            pieces.append(joined[:end])
            joined = indent + joined[end:]
        current = joined
    return [*pieces, current]


def _fitting(text: str, columns: int, least: int) -> int:
    """How many characters of ``text`` take no more than ``columns``; at least ``least``."""
    used = 0
    for index, char in enumerate(text):
        used += _width(char)
        if used > columns:
            return max(index, least)
    return len(text)


def shorten(text: str, columns: int) -> str:
    """``text`` in at most ``columns`` columns, an ellipsis in the place of what is cut off its end."""
    if columns_of(text) <= columns:
        return text
    return text[: _fitting(text, columns - 1, 0)] + "…" if columns > 0 else ""


def align(
    rows: Sequence[Sequence[str]],
    *,
    right: frozenset[int] = frozenset(),
    paint: Callable[[int, int, str], str] = lambda _row, _column, cell: cell,
) -> list[str]:
    """Lines with every column as wide as its widest cell; columns in ``right`` end flush.

    ``paint(row, column, cell)`` may add what takes no room, such as colour. All rows have the same number of
    cells. No line ends in spaces.
    """
    widths = [max(columns_of(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    lines = []
    for index, row in enumerate(rows):
        cells = []
        for column, cell in enumerate(row):
            gap = " " * (widths[column] - columns_of(cell))
            shown = paint(index, column, cell) if cell else cell
            cells.append(gap + shown if column in right else shown + gap)
        lines.append("  ".join(cells).rstrip())
    return lines


def plural(count: int, noun: str) -> str:
    """``1 model``, ``2 models``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
