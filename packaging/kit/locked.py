"""The lock: what localq runs with, and what builds it, as versions and hashes for all platforms."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kit.project import ROOT

LOCK = ROOT / "packaging" / "lock" / "requirements.txt"
TOOLS = LOCK.with_name("tools.txt")


@dataclass(frozen=True)
class Locked:
    """A requirement as the lock has it."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def text(self) -> str:
        """As pip reads it."""
        marker = f" ; {self.marker}" if self.marker else ""
        return " \\\n    ".join(
            [f"{self.name}=={self.version}{marker}", *(f"--hash={digest}" for digest in self.hashes)]
        )


def locked(text: str) -> list[Locked]:
    """The requirements of a lock file. Raises ValueError for a line that is none, or has no hash."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(
            r"([\w.-]+)==([\w.!+]+)(?: ; ([^#]+?))?((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*", line
        )
        if match is None:
            raise ValueError(f"not a locked requirement: {line[:80]!r}; run make lock")
        hashes = tuple(word.removeprefix("--hash=") for word in match[4].split())
        found.append(Locked(match[1], match[2], match[3] or "", hashes))
    return found
