"""Paths as a person writes them."""

from __future__ import annotations

import os
from pathlib import Path


def expand(path: str | Path) -> Path:
    """``path`` with a home folder in the place of ``~`` or ``~name``; as it is where nobody has that name."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (pathlib's raises where there is no such home)
