"""The file: opened, locked down, and changed in transactions that are on the disk when they end."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from app.chats.schema import APPLICATION_ID, MIGRATIONS, migrate, version
from app.errors import ChatsBusy, ChatsDamaged
from app.store import disk

WAIT_SECONDS: Final = 10.0
_OWNER_ONLY: Final = 0o077
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})


class Database:
    """Two connections to one file: one writes, one reads, each by one thread at a time.

    ``path`` None keeps everything in memory. Raises ChatsBusy, ChatsDamaged, NotEnoughDisk and DiskFailed, as
    every use of it does.
    """

    def __init__(self, path: Path | None, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self.path = path
        self._wait_seconds = wait_seconds
        self._writing = threading.RLock()
        self._reading = threading.RLock()
        with self._typed():
            if path is not None:
                _create(path)
            self._writer = self._connect()
            try:
                self._prepare(self._writer)
                if path is None:
                    self._reader, self._reading = self._writer, self._writing
                else:
                    self._reader = self._connect()
                    self._reader.execute("PRAGMA query_only = ON")
            except BaseException:
                self._writer.close()
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to ask, all of whose answers in this block are of one moment."""
        with self._typed(), self._reading:
            if self._reader.in_transaction:  # a block within a block, or a database in memory
                yield self._reader
                return
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: on the disk when the block ends, and undone if it raises."""
        with self._typed(), self._writing:
            if self._writer.in_transaction:
                yield self._writer
                return
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # an error of the disk has undone it already
                    self._writer.execute("ROLLBACK")
                raise

    def forget(self) -> bool:
        """Takes deleted words out of the index, and old pages out of the log.

        False where another process still reads an older state: then the log keeps its pages for now.
        """
        with self._typed(), self._writing:
            for table in ("message_words", "title_words"):
                self._writer.execute(f"INSERT INTO {table} ({table}) VALUES ('optimize')")
            (busy, _, _) = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    def changes(self) -> int:
        """A number that differs after another process has changed something."""
        with self._typed(), self._reading:
            return int(self._reader.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Closes the connections; the last process to do so removes the log."""
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path or ":memory:",
            timeout=self._wait_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in (
            "synchronous = FULL",
            "fullfsync = ON",  # macOS: fsync alone stops at the drive's cache there
            "checkpoint_fullfsync = ON",
            "foreign_keys = ON",
            "secure_delete = ON",
            "trusted_schema = OFF",
            "temp_store = MEMORY",  # no copy of a chat in a temporary file
        ):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if found != APPLICATION_ID and tables:
            raise ChatsDamaged(self.path, "this is a database of another program")
        if version(connection) > len(MIGRATIONS):
            raise ChatsDamaged(
                self.path,
                f"a newer localq has changed the chats (version {version(connection)}, this one knows "
                f"{len(MIGRATIONS)}); update localq",
                next_command="localq --version",
            )
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection)

    @contextmanager
    def _typed(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise self._error(error) from error
        except OSError as error:
            raise disk.failure("use", self.path or Path(), error) from error

    def _error(self, error: sqlite3.Error) -> Exception:
        path = self.path or Path(":memory:")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return ChatsBusy(path, self._wait_seconds)
        if code in _DAMAGED:
            return ChatsDamaged(path, str(error))
        if code == sqlite3.SQLITE_FULL:
            return disk.failure("write to", path, OSError(28, str(error)))
        return disk.failure("use", path, OSError(0, str(error)))


def _create(path: Path) -> None:
    """The file and its folder, for their owner only; SQLite gives its log the permissions of the file."""
    folder = path.parent
    if not folder.is_dir():
        disk.make_directory(folder)
        folder.chmod(0o700)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        if os.fstat(fd).st_mode & _OWNER_ONLY:
            os.fchmod(fd, 0o600)
        if os.fstat(fd).st_size == 0:
            disk.sync_directory(folder)
    finally:
        os.close(fd)
