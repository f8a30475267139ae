"""The GGUF under way: laid out at its full size, filled tensor by tensor, published in one step."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from quant.errors import NoRoom, OutputExists, QuantError
from quant.files.layout import FileLayout
from runtime.gguf import open_model
from runtime.gguf.packed_data import read_packed_data
from runtime.gguf.source import pread
from runtime.units import format_bytes

_COPY_BYTES: Final = 1 << 20
_RANGE_BYTES: Final = 1 << 30


class PartFile:
    """A file of its final size whose tensors may be there or not; ``layout`` says where they belong.

    One that is there already is taken up again, whatever its header held: tensors that were finished are
    found in it. Any number of threads may write at once. Use it as a context manager.
    """

    def __init__(self, path: Path, layout: FileLayout) -> None:
        self.path = path
        self.layout = layout
        with _disk_errors(path, layout.size):
            if path.exists() and path.stat().st_nlink > 1:
                path.unlink()  # it was published when a kill came: it is another's now
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                if os.fstat(self._fd).st_size != layout.size:
                    os.ftruncate(self._fd, 0)
                _reserve(self._fd, layout.size)
            except OSError:
                os.close(self._fd)
                raise
        self.rewrite(layout)

    def write(self, position: int, data: bytes | memoryview) -> None:
        """Writes ``data`` at ``position`` of the file."""
        view = memoryview(data).cast("B")
        with _disk_errors(self.path, self.layout.size):
            while view:
                written = os.pwrite(self._fd, view, position)
                view = view[written:]
                position += written

    def copy(self, source: int, start: int, position: int, nbytes: int) -> None:
        """Copies ``nbytes`` bytes at ``start`` of the descriptor ``source`` to ``position`` of the file.

        Within the kernel where the system offers that. Raises EOFError where the source ends before them.
        """
        with _disk_errors(self.path, self.layout.size):
            while nbytes:
                copied = _copy_range(source, self._fd, start, position, min(nbytes, _RANGE_BYTES))
                if not copied:
                    raise EOFError
                start, position, nbytes = start + copied, position + copied, nbytes - copied

    def read(self, position: int, nbytes: int) -> bytes:
        """``nbytes`` bytes at ``position``."""
        with _disk_errors(self.path, self.layout.size):
            return pread(self._fd, nbytes, position)

    def rewrite(self, layout: FileLayout) -> None:
        """Writes the header again, with other values of the same length. The tensors stay where they are."""
        if len(layout.header) != len(self.layout.header) or layout.tensors != self.layout.tensors:
            raise QuantError(
                f"the header of {self.path} would take {len(layout.header)} bytes where "
                f"{len(self.layout.header)} are laid out (a bug in localq); nothing was published"
            )
        self.layout = layout
        self.write(0, layout.header)

    def zero_padding(self) -> None:
        """Makes the bytes between the tensors zeros, whatever an interrupted run left there."""
        pieces = sorted({piece for placed in self.layout.tensors for piece in placed.pieces})
        ends = [position for position, _ in pieces[1:]] + [self.layout.size]
        for (position, nbytes), end in zip(pieces, ends, strict=True):
            start = position + nbytes
            self.write(start, bytes(end - start))

    def sync(self) -> None:
        """Returns when everything written is on the disk. Never retried: a failed fsync is final."""
        with _disk_errors(self.path, self.layout.size):
            os.fsync(self._fd)

    def check(self) -> None:
        """Validates the finished file as any other. Raises :class:`runtime.errors.GgufError`."""
        model = open_model(self.path)
        if model.packed is not None:
            read_packed_data(model.header, model.packed)

    def publish(self, target: Path, *, replace: bool = False) -> None:
        """Moves the file, brought to the disk before, to ``target`` on the same disk in one step.

        Raises :class:`OutputExists` where something has that name, unless ``replace``.
        """
        with _disk_errors(target, self.layout.size):
            if replace:
                self.path.replace(target)
            else:
                move_to_nothing(self.path, target)
            sync_folder(target.parent)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def move_to_nothing(source: Path, target: Path) -> None:
    """Moves a file to a name on the same disk that no other has. Raises :class:`OutputExists`.

    By a second name, which never takes that of another file, where the file system offers those.
    """
    try:
        target.hardlink_to(source)
    except FileExistsError:
        raise OutputExists(target) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if target.exists():
            raise OutputExists(target) from None
        source.replace(target)
    else:
        source.unlink()


def sync_folder(folder: Path) -> None:
    """Returns when the names in ``folder`` are on the disk, where its file system offers that."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def require_room(folder: Path, needed_bytes: int) -> None:
    """Raises :class:`NoRoom` unless the disk of ``folder`` has ``needed_bytes`` free for an ordinary user."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < needed_bytes:
        raise NoRoom(folder, needed_bytes=needed_bytes, available_bytes=free)


def existing(folder: Path) -> Path:
    """The nearest folder above ``folder``, or itself, that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _copy_range(source: int, target: int, start: int, position: int, nbytes: int) -> int:
    """Bytes copied; 0 at the source's end."""
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, nbytes, start, position)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
                raise
    data = os.pread(source, min(nbytes, _COPY_BYTES), start)
    return os.pwrite(target, data, position) if data else 0


def _reserve(fd: int, size: int) -> None:
    """Makes the file ``size`` bytes long, with its blocks where the system can promise them."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                raise
    os.ftruncate(fd, size)


@contextmanager
def _disk_errors(path: Path, size: int) -> Iterator[None]:
    """Turns a full disk, and whatever else the system refuses, into a typed error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            status = os.statvfs(path.parent)
            free = status.f_bavail * status.f_frsize
            raise NoRoom(path.parent, needed_bytes=size, available_bytes=free) from error
        raise QuantError(
            f"{path} ({format_bytes(size)}) cannot be written: {error.strerror}; nothing was published"
        ) from error
