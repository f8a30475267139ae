"""Files to import from, within bounds: regular ones, of bounded size, and archives that do not explode."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import UnreadableExport
from runtime.units import format_bytes

ZIP: Final = b"PK\x03\x04"
MOST_BYTES: Final = 1 << 30
MOST_RATIO: Final = 200
"""Text is packed to a tenth; a bomb to a thousandth."""
MOST_FILES: Final = 100_000
ENDINGS: Final = (".json", ".jsonl", ".zip", ".sqlite", ".db")
_CONVERSATIONS: Final = re.compile(r"(^|/)conversations[^/]*\.json$")


@dataclass(frozen=True, slots=True)
class FileText:
    """Where a text comes from; ``folder`` is that of its file below the folder that is imported."""

    path: Path
    folder: str


def files_of(path: Path) -> Iterator[Path]:
    """``path``, or the files below it that may hold chats, by name. Raises UnreadableExport."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise UnreadableExport(path, getattr(error, "strerror", None) or str(error)) from error
    if stat.S_ISREG(mode):
        yield path
    elif stat.S_ISDIR(mode):
        found = 0
        for parent, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                if name.lower().endswith(ENDINGS) and Path(parent, name).is_file():
                    if (found := found + 1) > MOST_FILES:
                        raise UnreadableExport(path, f"there are more than {MOST_FILES} files in it")
                    yield Path(parent, name)
    else:
        raise UnreadableExport(path, "this is neither a file nor a folder")


def read_file(path: Path) -> bytes:
    """All of a file. Raises UnreadableExport."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UnreadableExport(path, f"cannot be read: {error.strerror or error}") from error
    if len(data) > MOST_BYTES:
        raise UnreadableExport(path, f"it has more than {format_bytes(MOST_BYTES)}")
    return data


def members_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """The conversations in an exported archive, by name. Raises UnreadableExport, and what zipfile raises."""
    with zipfile.ZipFile(path) as archive:
        members = sorted(
            (info for info in archive.infolist() if _CONVERSATIONS.search(info.filename)),
            key=lambda info: info.filename,
        )
        if not members:
            raise UnreadableExport(path, "there is no conversations.json in this zip file")
        for info in members:
            if info.file_size > min(MOST_BYTES, MOST_RATIO * max(info.compress_size, 1 << 16)):
                raise UnreadableExport(
                    path, f"{info.filename} would unpack to {format_bytes(info.file_size)}"
                )
            with archive.open(info) as file:
                data = file.read(info.file_size + 1)
            if len(data) > info.file_size:
                raise UnreadableExport(path, f"{info.filename} is longer than the archive says")
            yield info.filename, data
