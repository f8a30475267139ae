"""Locks that die with their holder: ``flock`` on an open file, never a file whose existence is the lock."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import DiskFailed, StoreBusy

LOCK_SECONDS = 30.0
_PAUSE_SECONDS = 0.02


@contextmanager
def exclusive(home: Path, wait_seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Holds the store's lock: whoever changes which blobs manifests refer to, or removes blobs, holds it.

    The lock is the folder ``home`` itself, so that nothing has to be created on a full disk. It is held for a
    few renames and fsyncs or for removals, never while a model is copied or hashed. Raises
    :class:`StoreBusy` after ``wait_seconds``.
    """
    fd = _open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            _wait(fd, home, wait_seconds)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise DiskFailed("lock", home, error) from error
            # NFS locks for writing only what is open for writing, which a folder cannot be.
            os.close(fd)
            fd = _open(home / "lock", os.O_RDWR | os.O_CREAT)
            try:
                _wait(fd, home, wait_seconds)
            except OSError as nfs_error:
                raise DiskFailed("lock", home / "lock", nfs_error) from nfs_error
        yield
    finally:
        os.close(fd)


def claim(fd: int, path: Path) -> bool:
    """Marks a temporary file that was just created as in use, until ``fd`` is closed or its process ends.

    False if a collector looked at the file before: it removes it, so the caller takes another.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise DiskFailed("lock", path, error) from error
    return os.fstat(fd).st_nlink > 0


@contextmanager
def unclaimed(path: Path) -> Iterator[bool]:
    """Whether nobody uses the temporary file ``path``. While the block runs, nobody can claim it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield False
        return
    except OSError as error:
        raise DiskFailed("open", path, error) from error
    try:
        # Shared is enough to meet the owner's exclusive lock, and NFS grants it on a file open for reading.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        free = False
    except OSError as error:
        os.close(fd)
        raise DiskFailed("lock", path, error) from error
    try:
        yield free
    finally:
        os.close(fd)


def _wait(fd: int, home: Path, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StoreBusy(home, wait_seconds) from None
            time.sleep(_PAUSE_SECONDS)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise DiskFailed("open", path, error) from error
