"""Text that is selected with the mouse: how it is drawn, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from rich.segment import Segment
from rich.style import Style
from textual.selection import Selection

from app.tui.markdown import Line


def highlighted(segments: list[Segment], span: tuple[int, int], style: Style) -> list[Segment]:
    """``segments`` with the characters of ``span`` in ``style``; an end of -1 is that of the line."""
    start, end = span
    found, position = [], 0
    for text, own, _ in segments:
        cut = sorted({0, len(text), *(at - position for at in span if 0 < at - position < len(text))})
        for low, high in pairwise(cut):
            inside = position + low >= start and (end == -1 or position + low < end)
            found.append(Segment(text[low:high], (own or Style()) + style if inside else own))
        position += len(text)
    return found


def text_between(
    selection: Selection, height: int, line_at: Callable[[int], Line | None], gutter: int
) -> str:
    """The selected text of a column of lines, each behind ``gutter`` cells."""
    start = selection.start.y if selection.start else 0
    end = selection.end.y if selection.end else height - 1
    parts: list[str] = []
    for y in range(max(0, start), min(end, height - 1) + 1):
        span, line = selection.get_span(y), line_at(y)
        if span is None or line is None:
            continue
        plain = line.plain
        low = max(span[0] - gutter, line.margin)
        high = len(plain) if span[1] == -1 else span[1] - gutter
        if parts:
            parts.append("\n" if line.joint is None else line.joint)
        parts.append(plain[low : max(low, high)])
    return "".join(parts)
