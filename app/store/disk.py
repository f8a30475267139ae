"""Every way in which the store changes the disk; no other module of it does.

Each primitive either did what it says or raises :class:`DiskFailed` or :class:`NotEnoughDisk`, which name the
path. A failed fsync is final: the kernel has dropped the dirty pages then, and a second fsync would report
success for data that is lost (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC
2020).
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG

from app.errors import DiskFailed, NotEnoughDisk, StoreError

_FICLONE = 0x40049409  # ioctl of Linux: share the extents of another file (btrfs, XFS, bcachefs)
_NOT_OFFERED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


def make_directory(path: Path) -> None:
    """Makes ``path`` and its missing parents, durably; it may exist already."""
    if path.is_dir():
        return
    make_directory(path.parent)
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise failure("make the folder", path, error) from error
    sync_directory(path.parent)


def create(path: Path) -> int:
    """A descriptor to read and write a new file; ``path`` must not exist."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise failure("create", path, error) from error


def write(fd: int, data: bytes | memoryview, path: Path) -> None:
    """Writes all of ``data`` at the descriptor's position."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except OSError as error:
            raise failure("write to", path, error, needed_bytes=len(view)) from error


def clone(source: int, target: int) -> bool:
    """Lets the empty file ``target`` share the data of ``source``, copied on write.

    False where the file system cannot: nothing has changed then, and the caller copies.
    """
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def protect(fd: int, path: Path) -> None:
    """Takes away the permission to write from a file that is complete."""
    try:
        os.fchmod(fd, os.fstat(fd).st_mode & 0o444)
    except OSError as error:
        raise failure("change the permissions of", path, error) from error


def sync(fd: int, path: Path) -> None:
    """Returns when the file's data and size are on the disk. Never call it again after it failed."""
    try:
        if sys.platform == "darwin":
            try:
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync alone stops at the drive's cache there
                return
            except OSError as error:
                if error.errno not in _NOT_OFFERED:
                    raise
        os.fsync(fd)
    except OSError as error:
        raise failure("bring to the disk (fsync)", path, error) from error


def sync_directory(path: Path) -> None:
    """Returns when the names in ``path`` are on the disk."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:  # some network file systems have no such operation
            raise failure("bring to the disk (fsync)", path, error) from error


def rename(source: Path, target: Path) -> None:
    """Moves a file within its folder, over ``target`` if that exists."""
    try:
        source.replace(target)
    except OSError as error:
        raise failure("rename to", target, error) from error


def unlink(path: Path) -> int:
    """Removes a file and returns its size; 0 if it is already gone."""
    try:
        size = path.lstat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise failure("remove", path, error) from error
    return size


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below ``folder``, in which others may remove files and folders (``Path.rglob`` raises)."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def file_bytes(path: Path) -> int:
    """The size of a regular file; 0 for anything else, and for a file that has gone."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return 0
    return status.st_size if S_ISREG(status.st_mode) else 0


def bytes_below(folder: Path) -> int:
    """The sizes of all regular files below ``folder``, which others may be changing."""
    return sum(map(file_bytes, files_below(folder)))


def free_bytes(path: Path) -> int:
    """What an ordinary user may still write to the disk of ``path``, or of its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        status = os.statvfs(path)
    except OSError as error:
        raise DiskFailed("ask for the free space of", path, error) from error
    return status.f_bavail * status.f_frsize


def failure(action: str, path: Path, error: OSError, *, needed_bytes: int = 1) -> StoreError:
    """The typed error for an operating system's."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotEnoughDisk(path, needed_bytes=max(1, needed_bytes), free_bytes=free_bytes(path))
    return DiskFailed(action, path, error)


def used_bytes(folder: Path) -> int:
    """What the files in ``folder`` take of the disk; links and what vanishes meanwhile not counted."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                status = Path(root, name).lstat()
            except FileNotFoundError:
                continue
            total += status.st_blocks * 512 if S_ISREG(status.st_mode) else 0
    return total
