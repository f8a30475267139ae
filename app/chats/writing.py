"""Chats in files of their own, for their owner only: what was private in the store stays so."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from app.errors import WrongUse
from app.store import disk


def write_new(path: Path, data: bytes) -> None:
    """A file that was not there. Raises WrongUse where one is, and DiskFailed."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError as error:
        raise WrongUse(
            f"{path} exists already; choose another name, or remove it",
            next_command=shlex.join(["ls", "-l", str(path)]),
        ) from error
    except (OSError, ValueError) as error:
        refused = error if isinstance(error, OSError) else OSError(0, str(error))
        raise disk.failure("write", path, refused) from error
