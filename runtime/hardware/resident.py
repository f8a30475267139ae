"""Memory that another process holds now."""

from __future__ import annotations

import psutil


def resident_bytes(pid: int) -> int | None:
    """Resident memory of a process, mapped file pages included; None for one that has ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
