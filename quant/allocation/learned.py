"""What earlier plans on this machine taught: how far forecasts were off, by architecture.

Kept in one small file; without it, or where it is damaged, nothing is corrected.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Final

import msgspec

FILE_NAME: Final = "learned.json"
LEAST_NATS: Final = 0.0005
"""Smaller divergences say more of the texts than of the formats."""

Ratio = Annotated[float, msgspec.Meta(ge=0.5, le=2.0)]


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """Measured over foreseen, of one architecture; each new run counts for half."""

    nats: Ratio = 1.0
    peak: Ratio = 1.0
    speed: Ratio = 1.0

    def with_run(
        self, *, nats: float | None = None, peak: float | None = None, speed: float | None = None
    ) -> Learned:
        """After one more run, with its ratios of measured to what was foreseen with these corrections."""
        return Learned(
            nats=_moved(self.nats, nats), peak=_moved(self.peak, peak), speed=_moved(self.speed, speed)
        )


def _moved(old: float, ratio: float | None) -> float:
    if ratio is None or not 0 < ratio < math.inf:
        return old
    return min(max(old * math.sqrt(ratio), 0.5), 2.0)


def read_learned(folder: Path, architecture: str) -> Learned:
    """What is known of ``architecture``."""
    return _read(folder).get(architecture, Learned())


def keep_learned(folder: Path, architecture: str, learned: Learned) -> None:
    """Puts it in the place of what was known. Raises OSError."""
    table = _read(folder) | {architecture: learned}
    temporary = folder / f"{FILE_NAME}.new"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(table)))
    temporary.replace(folder / FILE_NAME)


def _read(folder: Path) -> dict[str, Learned]:
    try:
        return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=dict[str, Learned])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}
