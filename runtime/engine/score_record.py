"""An original's likeliest tokens at every scored position, on disk: where two models do not fit side by side.

The file is one line of JSON (:class:`Heading`) and an array of positions, about 2 KiB each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from runtime.engine.score_rows import Likeliest, Row, likeliest
from runtime.errors import EngineError

Positions: TypeAlias = NDArray[np.void]


class Heading(msgspec.Struct, frozen=True):
    """What a record was made of; it is compared with nothing else."""

    vocabulary_size: int
    vocabulary_sha256: str
    tokens_sha256: str
    """Of all chunks, one after the other."""
    kept: int
    """Tokens of a position."""


class RecordWriter:
    """Writes positions in their order."""

    def __init__(self, path: Path, heading: Heading) -> None:
        self._file = path.open("wb")
        self._file.write(msgspec.json.encode(heading) + b"\n")
        self._position = np.zeros(1, dtype=position_type(heading.kept))
        self._kept = heading.kept

    def add(self, row: Row, log_probability: float) -> None:
        """A position; ``log_probability`` is that of the text's next token. Spends the row's exponentials."""
        entry: Any = self._position[0]
        entry["best"], entry["log_probability"] = row.best, log_probability
        found = likeliest(row, self._kept)
        entry["ids"], entry["shifted"] = found.ids, found.shifted
        entry["log_total"], entry["tail"] = found.log_total, found.tail
        self._file.write(self._position.tobytes())

    def close(self) -> None:
        self._file.close()


class RecordReader:
    """Reads positions in their order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("rb")
        self.heading = msgspec.json.decode(self._file.readline(), type=Heading)
        self._type = position_type(self.heading.kept)

    def next(self) -> tuple[Likeliest, int, float]:
        """The likeliest tokens, the first of them, and the log-probability of the text's next one."""
        data = self._file.read(self._type.itemsize)
        if len(data) != self._type.itemsize:
            raise EngineError(f"{self._path} ends before the last position: is the disk full?")
        entry: Any = np.frombuffer(data, dtype=self._type)[0]
        found = Likeliest(entry["ids"], entry["shifted"], float(entry["log_total"]), float(entry["tail"]))
        return found, int(entry["best"]), float(entry["log_probability"])

    def close(self) -> None:
        self._file.close()


def position_type(kept: int) -> np.dtype[np.void]:
    """A position in the file."""
    return np.dtype(
        [
            ("log_probability", np.float64),
            ("log_total", np.float64),
            ("tail", np.float64),
            ("best", np.int32),
            ("ids", np.int32, (kept,)),
            ("shifted", np.float32, (kept,)),
        ]
    )
