"""Peak memory of another process."""

from __future__ import annotations

from pathlib import Path

import psutil


def peak_memory_bytes(pid: int) -> int:
    """The most resident memory that a process has had, mapped file pages included (VmHWM on Linux).

    Where the system keeps no such mark the present size is given. Raises psutil.NoSuchProcess.
    """
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process(pid).memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))
