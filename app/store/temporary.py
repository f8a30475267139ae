"""Files and folders that are not published yet. What a dead process left of them, ``gc`` removes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from app.errors import NotEnoughDisk, StoreError
from app.store import disk
from app.store.lock import claim, unclaimed

PREFIX = ".tmp-"
PULL_PREFIX = ".localq-pull-"
"""Of folders with a file that ``app.hub`` fetches, or began to."""
_FOLDER_SUFFIX = ".d"


def create_temporary(directory: Path) -> tuple[int, Path]:
    """A new file under a name that no other process takes, claimed as long as the descriptor is open."""
    while True:
        path = directory / f"{PREFIX}{os.getpid()}-{os.urandom(8).hex()}"
        fd = disk.create(path)
        mine = False
        try:
            mine = claim(fd, path)
        finally:
            if not mine:
                os.close(fd)
                disk.unlink(path)
        if mine:
            return fd, path


class Staged(Protocol):
    """A complete file that waits for its final name."""

    def publish(self, target: Path) -> None:
        """Gives it that name. The caller holds the store's lock and syncs the folder."""

    def withdraw(self, target: Path) -> None:
        """Takes a publication back."""


class StagedFile:
    """Bytes on their way into the store: written under a temporary name and hashed meanwhile.

    Use it as a context manager: what was not published by then is removed. ``expected_bytes`` is the size it
    will have, as far as known; it only serves the message of a full disk.
    """

    def __init__(self, directory: Path, expected_bytes: int = 0) -> None:
        self.fd, self.path = create_temporary(directory)
        self.size = 0
        self._expected_bytes = expected_bytes
        self._hash = hashlib.sha256()
        self._published = False

    @property
    def digest(self) -> str:
        """Of everything written so far, as ``sha256-<hex>``."""
        return f"sha256-{self._hash.hexdigest()}"

    def write(self, data: bytes | memoryview) -> None:
        """Appends ``data``."""
        self._hash.update(data)
        try:
            disk.write(self.fd, data, self.path)
        except NotEnoughDisk as error:
            raise NotEnoughDisk(
                self.path.parent,
                needed_bytes=max(self._expected_bytes - self.size, error.needed_bytes),
                free_bytes=error.free_bytes,
            ) from error
        self.size += len(data)

    def adopt(self, data: memoryview) -> None:
        """Counts ``data`` that is in the file already (a clone of its source)."""
        self._hash.update(data)
        self.size += len(data)

    def seal(self) -> None:
        """The file is complete: no more writes, and its bytes are on the disk."""
        disk.protect(self.fd, self.path)
        disk.sync(self.fd, self.path)

    def publish(self, target: Path) -> None:
        """Gives the sealed file its final name. The caller holds the store's lock and syncs the folder."""
        disk.rename(self.path, target)
        self._published = True

    def withdraw(self, target: Path) -> None:
        """Removes what was published."""
        disk.unlink(target)

    def __enter__(self) -> StagedFile:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._published:
                with suppress(StoreError):  # a leftover that gc removes; the first error is the one to tell
                    disk.unlink(self.path)
        finally:
            os.close(self.fd)


@contextmanager
def scratch_folder(directory: Path) -> Iterator[Path]:
    """An empty folder in ``directory`` for the block's own use; it goes when the block ends."""
    import shutil

    disk.make_directory(directory)
    fd, claimed = create_temporary(directory)
    folder = claimed.with_name(claimed.name + _FOLDER_SUFFIX)
    try:
        disk.make_directory(folder)
        yield folder
    finally:
        try:
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(StoreError):
                disk.unlink(claimed)
        finally:
            os.close(fd)


def dead_files(directory: Path) -> Iterator[Path]:
    """The temporary files in ``directory`` whose process is gone; nobody can claim one that is looked at."""
    for path in _temporary_paths(directory):
        if path.is_dir():
            continue
        with unclaimed(path) as dead:
            if dead:
                yield path


def dead_folders(directory: Path) -> Iterator[Path]:
    """The scratch folders in ``directory`` whose process is gone."""
    for path in _temporary_paths(directory):
        if not path.is_dir():
            continue
        claimed = path.with_name(path.name.removesuffix(_FOLDER_SUFFIX))
        if not claimed.exists():  # a folder is made after its claim, so the owner has gone
            yield path
            continue
        with unclaimed(claimed) as dead:
            if dead:
                yield path


def abandoned_work(directory: Path) -> Iterator[Path]:
    """Folders of quantizations and downloads that were interrupted, and that no process goes on with now."""
    import fcntl

    from quant.files.work import PREFIX as WORK_PREFIX

    try:
        paths = sorted(
            path for path in directory.iterdir() if path.name.startswith((WORK_PREFIX, PULL_PREFIX))
        )
    except FileNotFoundError:
        return
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield path
        except BlockingIOError:
            continue
        finally:
            os.close(fd)


def _temporary_paths(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.name.startswith(PREFIX))
    except FileNotFoundError:
        return []
