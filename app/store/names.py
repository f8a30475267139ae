"""Names of models, and the file names of their manifests.

A name is one or more segments with ``/`` between them and may end in ``:tag``. Segments and tag are made of
lower-case ASCII letters, digits, ``.``, ``_`` and ``-``. So a name is the same on every file system, cannot
leave its folder, and carries no control characters.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from app.errors import InvalidName

MAX_NAME_LENGTH = 200
MAX_SEGMENT_LENGTH = 100
SUFFIX = ".json"

_SEGMENT = re.compile(r"[a-z0-9][a-z0-9._-]*")
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))]
)
_TO_FLAT = str.maketrans("/:", "+@")
_FROM_FLAT = str.maketrans("+@", "/:")


def check_name(name: str) -> str:
    """Returns ``name`` if a model may be called so; raises :class:`InvalidName`, with a suggestion."""
    reason = _objection(name)
    if reason is not None:
        raise InvalidName(name, reason, _suggestion(name))
    return name


def manifest_filename(name: str) -> str:
    """The flat, safe file name for a checked ``name``; :func:`name_of` is its inverse."""
    return name.translate(_TO_FLAT) + SUFFIX


def name_of(filename: str) -> str:
    """The name whose manifest is called ``filename``; raises :class:`InvalidName` if there is none."""
    stem = filename.removesuffix(SUFFIX)
    if stem == filename or "/" in stem or ":" in stem:
        raise InvalidName(filename, f"it is not the file name of a manifest (NAME{SUFFIX})")
    return check_name(stem.translate(_FROM_FLAT))


def removal_command(path: Path) -> str:
    """What removes the damaged manifest at ``path``."""
    try:
        return f"localq rm {shlex.quote(name_of(path.name))}"
    except InvalidName:
        return f"rm {_quoted(str(path))}"


def _quoted(path: str) -> str:
    """For the shell; bytes that are no text as the shell's escapes, so that the command can be printed."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        codes = "".join(f"\\x{byte:02x}" for byte in os.fsencode(path))
        return f"$'{codes}'"
    return shlex.quote(path)


def _objection(name: str) -> str | None:
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME_LENGTH:
        return f"it has {len(name)} characters, at most {MAX_NAME_LENGTH} are allowed"
    path, colon, tag = name.partition(":")
    segments = [*path.split("/"), *([tag] if colon else [])]
    return next((reason for reason in map(_segment_objection, segments) if reason), None)


def _segment_objection(segment: str) -> str | None:
    if not _SEGMENT.fullmatch(segment):
        return (
            f"{segment[:80]!r} is not made of lower-case letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit"
        )
    if len(segment) > MAX_SEGMENT_LENGTH:
        return f"a part of it has {len(segment)} characters, at most {MAX_SEGMENT_LENGTH} are allowed"
    if ".." in segment or segment.endswith("."):
        return f"{segment!r} has two dots in a row or a dot at its end"
    if segment.partition(".")[0] in _DEVICES:
        return f"{segment!r} is the name of a device on Windows"
    return None


def _suggestion(name: str) -> str | None:
    path, _, tag = name[:MAX_NAME_LENGTH].lower().partition(":")
    segments = [re.sub(r"[^a-z0-9_-]+", "-", part).strip("-_") for part in path.split("/")]
    tag = re.sub(r"[^a-z0-9_-]+", "-", tag).strip("-_")
    suggested = "/".join(filter(None, segments)) + (f":{tag}" if tag else "")
    return suggested if _objection(suggested) is None else None
