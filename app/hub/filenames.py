"""Which names of files in a repository are harmless. No name becomes a path, but some become addresses."""

from __future__ import annotations

import re
import unicodedata

MAX_PATH_CHARACTERS = 1024
MAX_NAME_BYTES = 255
_DRIVE = re.compile(r"[A-Za-z]:")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of characters that show nothing, or turn what stands around them about."""
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))]
)


def objection(path: str) -> str | None:
    """Why a file of that name is not fetched; None if it may be.

    Refused is what could leave a folder, hide in a terminal, or mean another file on some system.
    """
    if not path or len(path) > MAX_PATH_CHARACTERS:
        return f"the name has {len(path)} characters, 1 to {MAX_PATH_CHARACTERS} are allowed"
    if "\\" in path or path.startswith(("/", "~")) or _DRIVE.match(path):
        return "the name begins like an absolute path, or has a backslash"
    if any(unicodedata.category(char) in _HIDDEN for char in path):
        return "the name holds characters that do not show"
    if unicodedata.normalize("NFC", path) != path:
        return "the name is not in Unicode's composed form (NFC), so another file may look the same"
    return next((reason for reason in map(_part_objection, path.split("/")) if reason), None)


def _part_objection(part: str) -> str | None:
    if part in ("", ".", ".."):
        return "the name has an empty part, '.' or '..'"
    if len(part.encode()) > MAX_NAME_BYTES:
        return f"a part of the name has more than {MAX_NAME_BYTES} bytes"
    if part.startswith("-"):
        return "a part of the name begins with '-', like an option"
    if part != part.strip() or part.endswith("."):
        return "a part of the name begins or ends with a space, or ends with a dot"
    if any(char in part for char in '<>:"|?*'):
        return "the name has a character that some systems forbid"
    if part.partition(".")[0].lower() in _DEVICES:
        return "a part of the name is that of a device on Windows"
    return None
