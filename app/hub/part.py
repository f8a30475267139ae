"""A file on its way from the Hub, on disk: what a killed pull leaves, and the next one goes on from.

The folder belongs to the file's content (its hash), and to one process at a time. In it lie ``data``, the
bytes so far, and ``chunks``, the part log: one byte for each MiB of the file. A chunk is marked WRITTEN after
its bytes were, and SYNCED after those were brought to the disk. A kill loses neither; a power failure may
lose what was only written, so after a restart of the machine only SYNCED counts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from app.store import disk
from app.store.temporary import PULL_PREFIX as PREFIX

CHUNK_BYTES: Final = 1 << 20
MISSING, WRITTEN, SYNCED = 0, 1, 2
_HEADER_BYTES: Final = 64
"""Of the log: which start of the machine WRITTEN belongs to."""
_POLL_SECONDS: Final = 0.2


class Part:
    """The part folder of one file of ``size`` bytes; this process holds its lock."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self.size = size
        self.data = folder / "data"
        self._log = folder / "chunks"
        self.count = -(-size // CHUNK_BYTES)
        """Chunks of the file."""
        self._lock = threading.Lock()
        self.fd = _open(self.data)
        try:
            self._log_fd = _open(self._log)
            try:
                self._marks = self._load()
            except BaseException:
                os.close(self._log_fd)
                raise
        except BaseException:
            os.close(self.fd)
            raise
        self._fds: tuple[int, ...] = (self.fd, self._log_fd)

    def leave(self) -> None:
        """Closes the files; a folder in which nothing of worth lies is cleared away."""
        if not self.done_bytes:
            self.remove()
        self._close()

    @property
    def done_bytes(self) -> int:
        """Bytes of the file that are here."""
        return sum(self.length(index) for index, mark in enumerate(self._marks) if mark)

    @property
    def complete(self) -> bool:
        return MISSING not in self._marks

    def length(self, index: int) -> int:
        """Bytes of a chunk."""
        return min(CHUNK_BYTES, self.size - index * CHUNK_BYTES)

    def has(self, index: int) -> bool:
        return self._marks[index] != MISSING

    def missing(self) -> list[int]:
        """Chunks to fetch, in their order."""
        return [index for index, mark in enumerate(self._marks) if mark == MISSING]

    def write(self, data: bytes | memoryview, position: int) -> None:
        """Puts bytes into their place. Raises NotEnoughDisk or DiskFailed."""
        view = memoryview(data)
        while view:
            try:
                count = os.pwrite(self.fd, view, position)
            except OSError as error:
                needed = max(len(view), self.size - self.done_bytes)
                raise disk.failure("write to", self.data, error, needed_bytes=needed) from error
            view, position = view[count:], position + count

    def mark(self, index: int) -> None:
        """The bytes of a chunk have all been written."""
        with self._lock:
            self._set(index, WRITTEN)

    def sync(self) -> None:
        """Brings what was written to the disk, and says so in the log; an error is final."""
        with self._lock:
            written = [index for index, mark in enumerate(self._marks) if mark == WRITTEN]
        if written or self.size == 0:
            disk.sync(self.fd, self.data)
            with self._lock:
                for index in written:
                    self._set(index, SYNCED)

    def forget(self) -> None:
        """What was written is wrong somewhere: start anew."""
        with self._lock:
            self._marks = bytearray(self.count)
            _put(self._log_fd, self._log, bytes(self._marks), _HEADER_BYTES)
        try:
            os.ftruncate(self.fd, 0)
        except OSError as error:
            raise disk.failure("shorten", self.data, error) from error

    def remove(self) -> None:
        """Clears the folder away, and frees its room on the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._close()

    def _close(self) -> None:
        open_fds, self._fds = self._fds, ()
        for fd in open_fds:
            os.close(fd)

    def _set(self, index: int, mark: int) -> None:
        self._marks[index] = mark
        _put(self._log_fd, self._log, bytes([mark]), _HEADER_BYTES + index)

    def _load(self) -> bytearray:
        """The marks of an earlier process, as far as they can be trusted; the log is made ready for more."""
        boot = boot_id().encode()[:_HEADER_BYTES].ljust(_HEADER_BYTES)
        try:
            raw = os.pread(self._log_fd, _HEADER_BYTES + self.count + 1, 0)
            written = os.fstat(self.fd).st_size
        except OSError as error:
            raise disk.failure("read", self._log, error) from error
        marks = bytearray(self.count)
        if len(raw) == _HEADER_BYTES + self.count:
            trusted = (WRITTEN, SYNCED) if raw[:_HEADER_BYTES] == boot and boot.strip() else (SYNCED,)
            for index, mark in enumerate(raw[_HEADER_BYTES:]):
                if mark in trusted and index * CHUNK_BYTES + self.length(index) <= written:
                    marks[index] = mark
        # Marks before the boot they belong to: a kill between the two writes must not revive the old ones.
        _put(self._log_fd, self._log, bytes(marks), _HEADER_BYTES)
        _put(self._log_fd, self._log, boot, 0)
        return marks


def boot_id() -> str:
    """Something that changes whenever the machine starts; empty where nothing is known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()  # Linux
    except (OSError, ValueError):
        pass
    try:
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]  # macOS
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


@contextmanager
def open_parts(
    parent: Path, sizes: dict[str, int], on_wait: Callable[[dict[str, int]], None]
) -> Iterator[dict[str, Part]]:
    """The parts for the files with these keys and sizes in ``parent``, held until the block ends.

    Where another process holds one, waits for it, however long it takes: it fetches what this one wants.
    ``on_wait`` then hears, again and again, how many bytes of each file are there. All parts are locked in
    the order of their keys, so that two processes never wait for each other. A lock dies with its process.
    """
    disk.make_directory(parent)
    with ExitStack() as stack:
        for key in sorted(sizes):
            stack.enter_context(_locked(parent, key, sizes, on_wait))
        parts: dict[str, Part] = {}
        for key, size in sizes.items():
            part = Part(parent / f"{PREFIX}{key}", size)
            stack.callback(part.leave)
            parts[key] = part
        yield parts


@contextmanager
def _locked(
    parent: Path, key: str, sizes: dict[str, int], on_wait: Callable[[dict[str, int]], None]
) -> Iterator[None]:
    folder = parent / f"{PREFIX}{key}"
    while True:
        fd = _open_folder(folder)
        try:
            while not _claimed(fd, folder):
                on_wait({other: _peek(parent / f"{PREFIX}{other}", size) for other, size in sizes.items()})
                time.sleep(_POLL_SECONDS)
            if not _is_at(fd, folder):
                continue  # its owner has finished, and removed it
            try:
                yield
            finally:
                if _is_at(fd, folder):  # otherwise it is another process's by now
                    with suppress(OSError):  # what failed before anything came leaves nothing
                        folder.rmdir()
            return
        finally:
            os.close(fd)


def _open_folder(folder: Path) -> int:
    while True:
        try:
            folder.mkdir(exist_ok=True)
            return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not folder.parent.is_dir():
                disk.make_directory(folder.parent)
        except OSError as error:
            raise disk.failure("make the folder", folder, error) from error


def _claimed(fd: int, folder: Path) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise disk.failure("lock", folder, error) from error
    return True


def _is_at(fd: int, folder: Path) -> bool:
    """Whether an open folder still has its name."""
    try:
        return os.path.samestat(os.fstat(fd), folder.stat())
    except FileNotFoundError:
        return False


def _peek(folder: Path, size: int) -> int:
    """About how many bytes of a file another process has fetched."""
    try:
        raw = (folder / "chunks").read_bytes()
    except OSError:
        return 0
    return min(size, sum(mark != MISSING for mark in raw[_HEADER_BYTES:]) * CHUNK_BYTES)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise disk.failure("open", path, error) from error


def _put(fd: int, path: Path, data: bytes, position: int) -> None:
    try:
        count = os.pwrite(fd, data, position)
    except OSError as error:
        raise disk.failure("write to", path, error) from error
    if count != len(data):
        raise disk.failure("write to", path, OSError(28, os.strerror(28)))
