"""Which servers run on this machine for this person: one small file each, for ``localq ps`` and ``localq
stop``."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from app.store import disk

FOLDER = "server"


class RunningServer(msgspec.Struct, frozen=True):
    """A server. ``token`` is a key of its own, for the commands of the person who started it."""

    pid: int
    created: float
    """When the process began: a later one may have its number."""
    url: str
    token: str

    @property
    def alive(self) -> bool:
        """Whether the process is still that one."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@contextlib.contextmanager
def announced(home: Path, url: str) -> Iterator[str]:
    """While the block runs others find this process; gives its token."""
    folder = home / FOLDER
    disk.make_directory(folder)
    folder.chmod(0o700)
    pid = os.getpid()
    path = folder / f"{pid}.json"
    entry = RunningServer(pid, psutil.Process(pid).create_time(), url, secrets.token_urlsafe(32))
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(entry))
    try:
        yield entry.token
    finally:
        path.unlink(missing_ok=True)


def running_servers(home: Path) -> list[RunningServer]:
    """The servers that live; what dead ones left is removed."""
    found = []
    for path in sorted((home / FOLDER).glob("[0-9]*.json")):
        try:
            entry = msgspec.json.decode(path.read_bytes(), type=RunningServer)
        except (OSError, msgspec.DecodeError):
            continue
        if entry.alive:
            found.append(entry)
        else:
            path.unlink(missing_ok=True)
    return found
