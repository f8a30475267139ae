"""Files to send along: found by a few of their letters, and read as text."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from app.chats import Attachment
from app.errors import WrongUse
from app.paths import expand
from runtime.units import format_bytes

MOST_BYTES: Final = 4 << 20
MOST_FILES: Final = 20_000
MOST_SECONDS: Final = 2.0
SKIPPED: Final = frozenset(
    {"node_modules", "__pycache__", "venv", "build", "dist", "target", "site-packages"}
)


def read_attachment(name: str, folder: Path | None = None) -> Attachment:
    """A text file. Raises WrongUse for what is none, or too large for any context."""
    path = expand(name)
    path = path if folder is None or path.is_absolute() else folder / path
    try:
        if not path.is_file():
            missing = "is a folder" if path.is_dir() else "is not a file"
            raise WrongUse(f"{name} {missing}; attach a text file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise WrongUse(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MOST_BYTES:
        raise WrongUse(f"{name} has more than {format_bytes(MOST_BYTES)}, more than any context holds")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise WrongUse(f"{name} is no UTF-8 text; only text files can be attached") from None
    if "\0" in text:
        raise WrongUse(f"{name} is a binary file; only text files can be attached")
    return Attachment(path.name, text)


def list_files(folder: Path) -> list[str]:
    """Paths below ``folder``, relative to it, near ones first; hidden ones are not, nor endless many."""
    found: list[str] = []
    folders = [""]
    deadline = time.monotonic() + MOST_SECONDS
    for below in folders:  # grows meanwhile: breadth first
        try:
            entries = sorted(os.scandir(folder / below), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name in SKIPPED:
                continue
            name = f"{below}/{entry.name}" if below else entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif entry.is_file():
                    found.append(name)
            except OSError:
                continue
        if len(found) >= MOST_FILES or time.monotonic() > deadline:
            break
    return found[:MOST_FILES]


def match_files(letters: str, names: Sequence[str], limit: int = 20) -> list[str]:
    """Names that have the letters in this order: the most compact and shortest first."""
    if not letters:
        return list(names[:limit])
    pattern = re.compile(".*?".join(f"({re.escape(char)})" for char in letters.lower()))
    ranked = []
    for name in names:
        lower = name.lower()
        base = lower.rfind("/") + 1
        match = pattern.search(lower, base) or pattern.search(lower)
        if match is not None:
            in_base = match.start() >= base
            spread = match.end() - match.start()
            ranked.append((not in_base, spread, match.start() - base if in_base else 0, len(name), name))
    return [name for *_, name in sorted(ranked)[:limit]]
