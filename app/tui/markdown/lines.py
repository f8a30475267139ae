"""Styled text, and how it is broken into lines of a width."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from rich.cells import cell_len

LEAST_WIDTH: Final = 8
"""Of the text itself, however deep it is nested."""
_CHUNK: Final = re.compile(r"\S+\s*|\s+")
_TAB: Final = "    "


class Span(NamedTuple):
    """Text in one style: names with spaces between, such as ``strong code``; empty for plain text."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the screen. ``joint`` is what stands between it and the line above in the text that was
    broken: None where it begins a line of its own, else a space or nothing.

    ``code`` is the number of the code block that it belongs to; ``margin`` how many of its characters are
    bullets, quote bars and indentation, not text. ``colours``, in a row of a picture, are those of the upper
    and of the lower halves of its cells, a byte each of red, green and blue; the lower may be missing.
    """

    spans: tuple[Span, ...] = ()
    joint: str | None = None
    code: int | None = None
    margin: int = 0
    colours: tuple[bytes, bytes] | None = None

    @property
    def plain(self) -> str:
        return "".join(span.text for span in self.spans)

    @property
    def width(self) -> int:
        return sum(cell_len(span.text) for span in self.spans)

    def span_at(self, at: int) -> Span:
        """The span of character ``at``; an empty one behind the end."""
        position = 0
        for span in self.spans:
            position += len(span.text)
            if at < position:
                return span
        return Span("")


@dataclass(frozen=True, slots=True)
class Code:
    """A code block, as it was written."""

    language: str
    text: str


BLANK: Final = Line()


@dataclass(frozen=True, slots=True)
class Margin:
    """What stands before the first line of a block, and before the others."""

    first: tuple[Span, ...] = ()
    rest: tuple[Span, ...] = ()

    @property
    def width(self) -> int:
        return sum(cell_len(span.text) for span in self.rest)

    def within(self, other: Margin) -> Margin:
        """This margin to the right of ``other``."""
        return Margin(other.first + self.first, other.rest + self.rest)

    @property
    def continued(self) -> Margin:
        """The same, after its first line."""
        return Margin(self.rest, self.rest)


def wrap(spans: Sequence[Span], width: int, margin: Margin, *, code: int | None = None) -> list[Line]:
    """``spans`` in lines that are at most ``width`` wide with their margin, broken at spaces where possible.

    A line break in the text begins a new line. Wide characters take two cells, and may be broken between.
    """
    room = max(LEAST_WIDTH, width - margin.width)
    lines: list[Line] = []
    for row in _rows(spans):
        plain = "".join(span.text for span in row)
        for start, end, joint in _pieces(plain, room):
            before = margin.rest if lines else margin.first
            lines.append(_line(before, _slice(row, start, end), joint, code))
    return lines


def fold(spans: Sequence[Span], width: int, margin: Margin, *, code: int | None = None) -> list[Line]:
    """``spans``, one line of code, in lines of exactly the width, but the last: spaces count there."""
    room = max(LEAST_WIDTH, width - margin.width)
    plain = "".join(span.text for span in spans)
    lines = []
    start = 0
    while True:
        end = _fitting(plain, start, room)
        joint = None if start == 0 else ""
        lines.append(
            _line(margin.first if start == 0 else margin.rest, _slice(spans, start, end), joint, code)
        )
        start = end
        if start >= len(plain):
            return lines


def _line(before: tuple[Span, ...], spans: list[Span], joint: str | None, code: int | None) -> Line:
    return Line((*before, *spans), joint, code, sum(len(span.text) for span in before))


def _rows(spans: Sequence[Span]) -> Iterator[list[Span]]:
    row: list[Span] = []
    for text, style in spans:
        first, *others = text.replace("\t", _TAB).split("\n")
        if first:
            row.append(Span(first, style))
        for other in others:
            yield row
            row = [Span(other, style)] if other else []
    yield row


def _pieces(plain: str, room: int) -> Iterator[tuple[int, int, str | None]]:
    """Start, end and joint of each line of one row."""
    if len(plain) <= room and (plain.isascii() or cell_len(plain) <= room):
        yield 0, len(plain.rstrip()), None
        return
    start = position = used = 0
    joint: str | None = None
    for match in _CHUNK.finditer(plain):
        word = match.group().rstrip()
        cells = cell_len(word)
        if used + cells > room:
            if used and cells <= room:
                yield start, position, joint
                start, used, joint = match.start(), 0, " "
            else:
                while used + cells > room:  # longer than a line, or of wide characters: broken anywhere
                    at = match.start() if used else start
                    cut = _fitting(plain, at, room - used)
                    if cut > at or not used:
                        cut = max(cut, at + 1)
                        yield start, cut, joint
                        start, joint = cut, ""
                    else:
                        yield start, position, joint
                        start, joint = at, " "
                    used = 0
                    cells = cell_len(plain[start : match.start() + len(word)])
        position = match.start() + len(word)
        used = cell_len(plain[start : match.end()]) if not plain.isascii() else match.end() - start
    yield start, position, joint


def _fitting(plain: str, start: int, room: int) -> int:
    """Where the text from ``start`` has filled ``room`` cells; at least one character further."""
    end = start
    if plain.isascii():
        return max(start + 1, min(len(plain), start + room)) if plain else 0
    used = 0
    while end < len(plain):
        used += cell_len(plain[end])
        if used > room and end > start:
            break
        end += 1
    return end


def _slice(spans: Sequence[Span], start: int, end: int) -> list[Span]:
    """The part of ``spans`` from character ``start`` to ``end``."""
    found = []
    position = 0
    for text, style in spans:
        low, high = max(start, position), min(end, position + len(text))
        if low < high:
            found.append(Span(text[low - position : high - position], style))
        position += len(text)
        if position >= end:
            break
    return found
