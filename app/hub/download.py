"""The bytes of one file: ranges over several connections, hashed in their order while they come.

Threads fetch spans of missing chunks into the part (:mod:`app.hub.part`); one thread reads what is there from
the start on and hashes it, so that the hash is known soon after the last byte. The thread that calls waits
and reports. Nothing is published here: a file whose hash is not the one announced is deleted.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import RawIOBase
from typing import Final

from app.errors import HubError, WrongHash
from app.hub.api import Hub, RemoteFile
from app.hub.part import CHUNK_BYTES, Part
from app.hub.ranges import NoRanges, RangeReader
from app.hub.retry import next_wait
from app.hub.session import Transient
from app.store import disk

CONNECTIONS: Final = 4
SPAN_CHUNKS: Final = 32
"""Chunks of one request at most: 32 MiB."""
LEAST_CHUNKS: Final = 2
"""A connection more is not worth it for fewer."""
PROGRESS_BYTES: Final = 64 << 10
"""That an attempt must bring to count as one that worked."""
SYNC_SECONDS: Final = 5.0
REPORT_SECONDS: Final = 0.1
_JOIN_SECONDS: Final = 2.0


@dataclass(frozen=True)
class State:
    """How far a download is."""

    here: int
    """Bytes of the file that are on this machine."""
    hashed: int
    trouble: HubError | None
    """What the last attempt failed with, while it is tried again."""


@dataclass
class _Span:
    """Bytes that one connection fetches; it begins with a chunk, and ``position`` moves through it."""

    position: int
    end: int


class Download:
    """Brings one file of a repository at a commit into ``part``. Good for one run."""

    def __init__(self, hub: Hub, repo: str, commit: str, file: RemoteFile, part: Part) -> None:
        self._patience = hub.patience
        self._file = file
        self._part = part
        self._reader = RangeReader(hub, repo, commit, file)
        self._changed = threading.Condition()
        self._missing = part.missing()
        self._here = part.done_bytes
        self._hashed = 0
        self._digests: tuple[str, str] | None = None
        self._error: BaseException | None = None
        self._trouble: HubError | None = None
        self._stopped = False
        self._working = 0
        self._span = SPAN_CHUNKS

    def run(self, report: Callable[[State], None], connections: int = CONNECTIONS) -> str:
        """The SHA-256 (hex) of the file, which then is whole, verified and on the disk.

        Whatever it raises, an interrupt too, the part keeps what came; only :class:`WrongHash` empties it.
        """
        share = -(-len(self._missing) // connections)
        self._span = min(SPAN_CHUNKS, max(LEAST_CHUNKS, share))
        self._working = min(connections, -(-len(self._missing) // self._span))
        jobs = [self._hash, self._sync, *[self._work] * self._working]
        threads = [threading.Thread(target=self._guarded, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        try:
            while not self._ended(REPORT_SECONDS):
                report(State(self._here, self._hashed, self._trouble))
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            self._reader.stop()
            for thread in threads:
                thread.join(_JOIN_SECONDS)
        if self._error is not None:
            raise self._error
        assert self._digests is not None
        report(State(self._file.size, self._file.size, None))
        self._part.sync()
        return self._verified(*self._digests)

    def _ended(self, seconds: float) -> bool:
        """Whether the download has come to its end, good or bad, within so long."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._digests is not None or self._error is not None, seconds
            )

    def _verified(self, sha256: str, git: str) -> str:
        expected, found = (self._file.sha256, sha256) if self._file.sha256 else (self._file.oid, git)
        if found != expected:
            self._part.forget()
            raise WrongHash(self._reader.host, self._file.path, expected=str(expected), found=found)
        return sha256

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            with self._changed:
                if not self._stopped:
                    self._error = self._error or error
                self._changed.notify_all()

    def _hash(self) -> None:
        sha256 = hashlib.sha256()
        git = hashlib.sha1(f"blob {self._file.size}\0".encode(), usedforsecurity=False)
        buffer = memoryview(bytearray(CHUNK_BYTES))
        with self._part.data.open("rb", buffering=0) as file:
            for index in range(self._part.count):
                with self._changed:
                    while not self._part.has(index) and not self._stopped:
                        self._changed.wait()
                    if self._stopped:
                        return
                chunk = buffer[: self._part.length(index)]
                self._read(file, chunk)
                sha256.update(chunk)
                if self._file.sha256 is None:
                    git.update(chunk)
                self._hashed += len(chunk)
        with self._changed:
            self._digests = sha256.hexdigest(), git.hexdigest()
            self._changed.notify_all()

    def _read(self, file: RawIOBase, chunk: memoryview) -> None:
        try:
            count = file.readinto(chunk)
        except OSError as error:
            raise disk.failure("read", self._part.data, error) from error
        if count != len(chunk):
            raise disk.failure("read all of", self._part.data, OSError("it became shorter"))

    def _sync(self) -> None:
        """Now and then, so that a power failure loses little and the end has little left to do."""
        while not self._wait(SYNC_SECONDS):
            self._part.sync()

    def _wait(self, seconds: float) -> bool:
        """Whether the download was stopped within so long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopped, seconds)

    def _work(self) -> None:
        """One connection: fetches spans until none is left.

        One that runs out of patience gives its span back; only the last such one ends the download.
        """
        while (span := self._take()) is not None:
            error = self._bring(span)
            if error is None:
                continue
            self._give_back(span)
            with self._changed:
                self._working -= 1
                if self._working == 0:
                    raise error
            return

    def _take(self) -> _Span | None:
        """The next bytes to fetch; None ends a connection."""
        with self._changed:
            whole = self._reader.whole
            if self._stopped or not self._missing or (whole and self._working > 1):
                self._working -= 1
                return None
            first = self._missing[0]
            count = 1
            while count < min(self._span, len(self._missing)) and self._missing[count] == first + count:
                count += 1
            if whole:  # every request begins at the file's start, so this one brings all
                self._missing = []
                return _Span(first * CHUNK_BYTES, self._file.size)
            self._missing = self._missing[count:]
            return _Span(first * CHUNK_BYTES, min((first + count) * CHUNK_BYTES, self._file.size))

    def _give_back(self, span: _Span) -> None:
        """What of a span is still missing is for others to fetch."""
        with self._changed:
            rest = range(span.position // CHUNK_BYTES, -(-span.end // CHUNK_BYTES))
            self._missing = sorted({*self._missing, *(index for index in rest if not self._part.has(index))})

    def _bring(self, span: _Span) -> HubError | None:
        """Fetches a span; the error where patience ran out. Raises what another attempt would not change."""
        failures = 0
        while span.position < span.end and not self._stopped:
            before = span.position
            try:
                self._fetch(span)
                self._trouble = None
            except NoRanges:
                self._give_back(span)
                return None
            except Transient as failed:
                self._trouble = failed.error
                failures = 1 if span.position - before >= PROGRESS_BYTES else failures + 1
                wait = next_wait(failed, failures, self._patience)
                if wait is None:
                    return failed.error
                self._wait(wait)
        return None

    def _fetch(self, span: _Span) -> None:
        with self._reader.stream(span.position, span.end) as pieces:
            for piece in pieces:
                self._part.write(piece, span.position)
                first, span.position = span.position // CHUNK_BYTES, span.position + len(piece)
                whole = span.position == self._file.size
                for index in range(first, self._part.count if whole else span.position // CHUNK_BYTES):
                    self._mark(index)

    def _mark(self, index: int) -> None:
        if self._part.has(index):
            return
        self._part.mark(index)
        with self._changed:
            self._here += self._part.length(index)
            self._changed.notify_all()
