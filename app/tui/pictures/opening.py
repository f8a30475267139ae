"""From a name in a message to an open file, or a reason why not."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from runtime.units import format_bytes

MOST_BYTES: Final = 32 << 20
_URL: Final = re.compile(r"//|[A-Za-z][A-Za-z0-9+.-]+:")


class NoPicture(Exception):
    """Why a picture is not shown, for the line that names it."""


def is_elsewhere(name: str) -> bool:
    """Whether a name is an address, which nobody asks."""
    return _URL.match(name) is not None


@contextmanager
def opened(name: str, folder: Path) -> Iterator[int]:
    """The descriptor of a regular file in ``folder`` or below it; ``name`` is as it stands in Markdown.

    Symbolic links are not followed, and no other file system is entered: what is mounted there, or would be,
    may take for ever. Raises NoPicture.
    """
    if os.open not in os.supports_dir_fd:
        raise NoPicture("not on this system")
    path = os.path.normpath(folder / os.fsdecode(unquote_to_bytes(name)))
    if not Path(path).is_relative_to(folder):
        raise NoPicture("outside of the working directory")
    try:
        descriptor = _descend(folder, Path(path).relative_to(folder).parts)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL within
        raise NoPicture("no such file") from None
    except OSError as error:
        raise NoPicture(os.strerror(error.errno or 0).lower()) from None
    try:
        if (size := os.fstat(descriptor).st_size) > MOST_BYTES:
            raise NoPicture(f"{format_bytes(size)}, more than {format_bytes(MOST_BYTES)}")
        yield descriptor
    finally:
        os.close(descriptor)


def _descend(folder: Path, parts: Sequence[str]) -> int:
    """Opens ``parts`` one below the other; each is looked at before it is opened, and once more after."""
    at = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        device = os.fstat(at).st_dev
        for below, part in enumerate(parts, 1):
            last = below == len(parts)
            before = os.stat(part, dir_fd=at, follow_symlinks=False)
            _require(before, device, last)
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            at, above = os.open(part, flags, dir_fd=at), at
            os.close(above)
            _require(os.fstat(at), device, last)
        if not parts:
            raise NoPicture("a folder")
        return at
    except BaseException:
        os.close(at)
        raise


def _require(found: os.stat_result, device: int, last: bool) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise NoPicture("a symbolic link, which is not followed")
    if found.st_dev != device:
        raise NoPicture("on another file system")
    if last and stat.S_ISDIR(found.st_mode):
        raise NoPicture("a folder")
    if last and not stat.S_ISREG(found.st_mode):
        raise NoPicture("not a regular file")
    if not last and not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError
