"""Lines typed at the REPL, kept for the next time: a plain file that only its owner may read."""

from __future__ import annotations

import os
from pathlib import Path

MAX_LINES = 1000
MAX_BYTES = 4 << 20


class History:
    """The file at ``path``. Two programs may add to it at once; neither loses a line of the other."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> list[str]:
        """The last lines, oldest first; none where there is no file. Raises OSError."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - MAX_BYTES))
                raw = file.read(MAX_BYTES)
        except FileNotFoundError:
            return []
        return [line for line in raw.decode("utf-8", "replace").split("\n") if line][-MAX_LINES:]

    def add(self, line: str) -> None:
        """Append one line. Raises OSError."""
        if not line.strip():
            return
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, f"{line.replace(chr(10), ' ')}\n".encode("utf-8", "replace"))
        finally:
            os.close(descriptor)
