"""Tables: columns as wide as they need, or as the width allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len

from app.tui.markdown.lines import LEAST_WIDTH, Line, Margin, Span, wrap

Cell = list[Span]
LEAST_COLUMN: Final = 3
_GAP: Final = " │ "


def draw_table(
    rows: Sequence[Sequence[Cell]], right: Sequence[bool], width: int, margin: Margin
) -> list[Line]:
    """The first of ``rows`` is the heading. ``right`` says which columns are flush right."""
    columns = max(len(row) for row in rows)
    grid = [[*row, *([[]] * (columns - len(row)))] for row in rows]
    room = max(LEAST_WIDTH, width - margin.width - len(_GAP) * (columns - 1))
    widths = _widths([max(_cells(row[column]) for row in grid) for column in range(columns)], room)
    lines: list[Line] = []
    for number, row in enumerate(grid):
        style = "table-head" if number == 0 else ""
        drawn = [
            wrap([Span(text, f"{style} {own}".strip()) for text, own in cell], column, Margin())
            for cell, column in zip(row, widths, strict=True)
        ]
        for height in range(max(map(len, drawn))):
            spans: list[Span] = []
            for column, cell_lines in enumerate(drawn):
                if column:
                    spans.append(Span(_GAP, "rule"))
                line = cell_lines[height].spans if height < len(cell_lines) else ()
                gap = Span(" " * max(0, widths[column] - sum(cell_len(span.text) for span in line)))
                flush = column < len(right) and right[column]
                spans += [gap, *line] if flush else [*line, gap]
            lines.append(_row(spans, lines, margin))
        if number == 0:
            rule = "─┼─".join("─" * column for column in widths)
            lines.append(_row([Span(rule, "rule")], lines, margin))
    return lines


def _row(spans: list[Span], above: list[Line], margin: Margin) -> Line:
    before = margin.rest if above else margin.first
    return Line((*before, *spans), margin=sum(len(span.text) for span in before))


def _cells(cell: Cell) -> int:
    return max(LEAST_COLUMN, sum(cell_len(span.text) for span in cell))


def _widths(wanted: list[int], room: int) -> list[int]:
    """The widest columns give way first, until all fit; none becomes narrower than three cells."""
    widths = list(wanted)
    excess = sum(widths) - room
    while excess > 0 and (widest := max(widths)) > LEAST_COLUMN:
        second = max((width for width in widths if width < widest), default=LEAST_COLUMN)
        same = [index for index, width in enumerate(widths) if width == widest]
        step = max(1, min(widest - second, -(-excess // len(same))))
        for index in same:
            if excess <= 0:
                break
            cut = min(step, excess, widths[index] - LEAST_COLUMN)
            widths[index] -= cut
            excess -= cut
    return widths
