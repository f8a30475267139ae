"""Room on the disk for what training keeps, promised before it is written: a full disk is an error then."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from quant.errors import NoRoom

UNSUPPORTED: Final = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def full_disk_told(folder: Path, nbytes: int) -> Iterator[None]:
    """Raises :class:`NoRoom` where the disk of ``folder`` is full, or this person's share of it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        status = os.statvfs(folder)
        raise NoRoom(
            folder, needed_bytes=nbytes, available_bytes=status.f_bavail * status.f_frsize
        ) from error


def reserve(path: Path, nbytes: int) -> None:
    """Makes a file of ``nbytes`` with its blocks, where the system can promise them; what is in it stays.

    A hole in a mapped file is only found to have no room when it is written, and that kills the process.
    """
    with full_disk_told(path.parent, nbytes):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(fd, nbytes)
            if hasattr(os, "posix_fallocate"):
                try:
                    os.posix_fallocate(fd, 0, nbytes)
                except OSError as error:
                    if error.errno not in UNSUPPORTED:
                        raise
        finally:
            os.close(fd)


def allocated(folder: Path) -> int:
    """Bytes on the disk of all files in ``folder`` and below."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_dir())
