"""How sizes read; for messages of every room."""

from __future__ import annotations


def format_bytes(size: float) -> str:
    """``98.1 MiB``, ``1.25 GiB``: powers of 1024, three significant digits."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 999.5 or unit == "TiB":
            break
        value /= 1024
    if unit == "B":
        return f"{value:.0f} B"
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f} {unit}"
