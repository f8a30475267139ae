"""Paths as a person writes them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from app.errors import WrongUse


def expand(path: str | Path) -> Path:
    """``path`` with a home folder in the place of ``~`` or ``~name``; as it is where nobody has that name."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (pathlib's raises where there is no such home)


def require_folder(path: Path) -> None:
    """Raises WrongUse where there is no folder for a file at ``path``."""
    if not path.parent.is_dir():
        raise WrongUse(
            f"the folder {path.parent} does not exist",
            next_command=f"mkdir -p {shlex.quote(str(path.parent))}",
        )
