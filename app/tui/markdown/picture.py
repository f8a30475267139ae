"""Pictures as rows of half blocks: a cell is two pixels, one above the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby, repeat
from typing import Final, NamedTuple

from app.tui.markdown.lines import LEAST_WIDTH, Line, Margin, Span

HALF: Final = "▀"
MOST_PICTURES: Final = 16
"""Of one message; those after them are named only."""

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """``pixels``: a byte each of red, green and blue, row by row, ``3 * width * height`` in all."""

    width: int
    height: int
    pixels: bytes = field(repr=False)


Look = Callable[[str], Picture | str]
"""The picture of a name, or why there is none; the reason is empty where the name says enough."""


class Run(NamedTuple):
    """Equal cells, side by side. ``lower`` is None where the picture ends with the upper half."""

    cells: int
    upper: Colour
    lower: Colour | None


def draw_picture(picture: Picture, width: int, margin: Margin) -> list[Line]:
    """The picture, made smaller where it is wider than ``width`` with its margin, never larger."""
    shown = _at_most(picture, max(LEAST_WIDTH, width - margin.width))
    stride = 3 * shown.width
    rows = [shown.pixels[at : at + stride] for at in range(0, len(shown.pixels), stride)] + [b""]
    spans = (*margin.rest, Span(HALF * shown.width, "picture"))
    indent = sum(len(span.text) for span in spans)  # all of it: there is no text to select
    return [
        Line(spans, "", margin=indent, colours=(rows[at], rows[at + 1])) for at in range(0, shown.height, 2)
    ]


def runs(colours: tuple[bytes, bytes]) -> list[Run]:
    """The cells of a line, equal ones together."""
    upper, lower = map(_colours, colours)
    cells = zip(upper, lower or repeat(None), strict=False)
    return [Run(len(list(same)), above, below) for (above, below), same in groupby(cells)]


def _colours(row: bytes) -> list[Colour]:
    return [(row[at], row[at + 1], row[at + 2]) for at in range(0, len(row), 3)]


@lru_cache(maxsize=32)
def _at_most(picture: Picture, width: int) -> Picture:
    """With its sides in proportion; a pixel is the mean of those that it stands for."""
    if picture.width <= width:
        return picture
    height = max(1, round(picture.height * width / picture.width))
    columns, rows = _edges(picture.width, width), _edges(picture.height, height)
    pixels = bytearray()
    for top, bottom in rows:
        for left, right in columns:
            for channel in range(3):
                values = [
                    picture.pixels[3 * (y * picture.width + x) + channel]
                    for y in range(top, bottom)
                    for x in range(left, right)
                ]
                pixels.append(sum(values) // len(values))
    return Picture(width, height, bytes(pixels))


def _edges(many: int, few: int) -> list[tuple[int, int]]:
    """``many`` pixels in ``few`` stretches, none of them empty."""
    return [(at * many // few, max(at * many // few + 1, (at + 1) * many // few)) for at in range(few)]
