"""Bars of text, as fine as an eighth of a character."""

from __future__ import annotations

from collections.abc import Sequence

BAR_COLUMNS = 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


def chart(values: Sequence[tuple[str, float]]) -> list[str]:
    """A line for each value, with a bar as long as it is beside the largest."""
    width = max((len(name) for name, _ in values), default=0)
    most = max((value for _, value in values), default=0.0)
    return [
        f"{name.ljust(width)}  {value:.2e}  {bar(value / most if most else 0.0)}".rstrip()
        for name, value in values
    ]


def bar(share: float, columns: int = BAR_COLUMNS) -> str:
    """``share`` of ``columns`` in eighths of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * columns * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
