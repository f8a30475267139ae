"""The pictures that were asked for, and those that are on their way."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from app.tui.markdown.picture import Picture
from app.tui.pictures.decoding import decode
from app.tui.pictures.opening import NoPicture, is_elsewhere, opened

KEPT: Final = 256
"""Pictures, of at most 12 KB."""
FRESH_SECONDS: Final = 2.0
"""After which a file is looked at again when it is drawn again."""


@dataclass(frozen=True)
class _Known:
    found: Picture | str
    identity: tuple[int, ...] | None
    """Of the file: device, inode, size, time of change."""
    looked: float


class Album:
    """Pictures in ``folder`` and below it. A file is read, and again after it changed, in one thread.

    ``ready`` is told the name of each whose :meth:`look` is now another; in that thread.
    """

    def __init__(self, folder: Path, ready: Callable[[str], None]) -> None:
        self._folder = folder
        self._ready = ready
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._wanted: set[str] = set()
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def look(self, name: str) -> Picture | str:
        """What is known of a name in a message; never waits. Empty for a picture that is still to come."""
        if is_elsewhere(name):
            return ""
        with self._lock:
            known = self._known.get(name)
            fresh = known is not None and time.monotonic() - known.looked < FRESH_SECONDS
            if not fresh and name not in self._wanted:
                self._wanted.add(name)
                self._queue.put(name)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="pictures", daemon=True)
                    self._thread.start()
            return "" if known is None else known.found

    def close(self) -> None:
        """Nothing more is looked for."""
        self._closed = True
        self._queue.put(None)

    def _work(self) -> None:
        while (name := self._queue.get()) is not None and not self._closed:
            before = self._known.get(name)
            known = self._find(name, before)
            with self._lock:
                self._wanted.discard(name)
                self._known[name] = known
                self._known.move_to_end(name)
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
            if known.found != ("" if before is None else before.found):
                self._ready(name)

    def _find(self, name: str, before: _Known | None) -> _Known:
        identity = None
        found: Picture | str
        try:
            with opened(name, self._folder) as descriptor:
                status = os.fstat(descriptor)
                identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
                if before is not None and before.identity == identity:
                    found = before.found
                else:
                    found = decode(descriptor)
        except NoPicture as reason:
            found = str(reason)
        return _Known(found, identity, time.monotonic())
