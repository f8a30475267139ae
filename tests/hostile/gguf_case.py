"""A hostile GGUF file, and how it is written."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hostile:
    """A file and the rule that it must be refused by. ``size`` makes it longer, without writing the bytes."""

    name: str
    rule: str
    make: Callable[[], bytes]
    size: int = 0

    def write(self, folder: Path) -> Path:
        path = folder / f"{self.name}.gguf"
        with path.open("wb") as file:
            file.write(self.make())
            if self.size:
                file.truncate(self.size)
        return path


def raw(*parts: bytes, tensors: int = 0, keys: int = 1) -> bytes:
    """A header of version 3, and whatever follows."""
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + b"".join(parts)
