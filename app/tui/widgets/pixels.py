"""Rows of pictures, as a terminal is told them."""

from __future__ import annotations

from rich.color import Color
from rich.segment import Segment
from rich.style import Style

from app.tui.markdown.picture import HALF, runs


def picture_segments(colours: tuple[bytes, bytes], base: Style) -> list[Segment]:
    """The cells of a row; where the lower half is missing the background is that of ``base``."""
    segments = []
    for cells, upper, lower in runs(colours):
        below = None if lower is None else Color.from_rgb(*lower)
        segments.append(Segment(HALF * cells, base + Style(color=Color.from_rgb(*upper), bgcolor=below)))
    return segments
