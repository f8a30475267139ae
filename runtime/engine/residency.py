"""Keeping a memory-mapped file from filling the memory of the process that reads it.

llama.cpp maps a model whole and asks for all of its pages at once. They may be dropped at any time: the next
access brings a page back, from the page cache where it is still there. Only Linux says how much is resident,
and only there anything is dropped.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

MADV_DONTNEED = 4
"""Linux: forget the pages of the range."""
PERIOD_SECONDS = 0.02


class Residency:
    """Watches this process while it is entered, and drops the pages of ``paths`` beyond ``mapped_bytes``."""

    def __init__(self, paths: Sequence[str], mapped_bytes: int) -> None:
        self._paths = frozenset(os.path.realpath(path) for path in paths)
        self._mapped_bytes = mapped_bytes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="residency", daemon=True)
        self.peak_anonymous_bytes = 0
        self.peak_mapped_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD_SECONDS):
            anonymous, mapped = resident_bytes()
            self.peak_anonymous_bytes = max(self.peak_anonymous_bytes, anonymous)
            self.peak_mapped_bytes = max(self.peak_mapped_bytes, mapped)
            if mapped > self._mapped_bytes:
                for begin, end in mappings(self._paths):
                    drop(begin, end)


def resident_bytes() -> tuple[int, int]:
    """This process's resident memory, anonymous and file-mapped; zeros where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0, 0
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]


def mappings(paths: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Address ranges at which this process has one of the files mapped, shared and for reading only."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, mode, _offset, _device, _inode, *path = line.split(maxsplit=5)
        if mode == "r--s" and path and path[0] in paths:
            begin, _, end = addresses.partition("-")
            yield int(begin, 16), int(end, 16)


def drop(begin: int, end: int) -> None:
    """Forget the pages of a range, which must be a mapping's or of memory whose content is not needed."""
    page = os.sysconf("SC_PAGE_SIZE")
    first, last = -(-begin // page) * page, end // page * page
    if first < last:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_DONTNEED)
