"""Bytes from one place to another of a file on the Hub: asked for, and held against what was asked for."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import httpx2

from app.errors import HubMisbehaved, HubUnreachable
from app.hub.api import Hub, RemoteFile
from app.hub.session import Transient, failure, host_of, origin_of

_EXPIRED: Final = frozenset({401, 403, 404, 410})
"""Answers of a content network to a signed address that is no longer valid."""
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_STRONG_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]{1,200}"')


WINDOW_BYTES: Final = 5 << 19
"""That the system may receive ahead on one connection: what lies in its buffers is lost by a kill. Four
connections with 2.5 MiB each still fill 100 MB/s at a round trip of 100 ms."""


class NoRanges(Exception):
    """The server gives files from their start only."""


class RangeReader:
    """Reads a file of a repository at a commit. Any number of threads may read at once.

    The Hub answers with the address of a content network, signed for about an hour: it is kept and asked
    directly until it expires.
    """

    def __init__(self, hub: Hub, repo: str, commit: str, file: RemoteFile) -> None:
        self._hub = hub
        self._commit = commit
        self._file = file
        self._source = hub.url(repo, commit, file.path)
        self._address: str | None = None
        self._etag: tuple[str, str] | None = None
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._stopped = False
        self.whole = False
        """Whether the server turned out to give files from their start only."""

    @property
    def host(self) -> str:
        """The Hub's, for messages."""
        return host_of(self._source)

    def stop(self) -> None:
        """Ends every read under way, and makes all later ones fail."""
        with self._lock:
            self._stopped = True
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for its bytes

    def read(self, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` (exclusive), all of them."""
        with self.stream(start, end) as pieces:
            return b"".join(pieces)

    @contextmanager
    def stream(self, start: int, end: int) -> Iterator[Iterator[bytes]]:
        """The same in pieces, as they come; at least one byte, and never more than were asked for.

        Raises :class:`Transient` where another attempt may work, :class:`NoRanges` where ``whole`` has become
        true and ``start`` is not 0, else a :class:`app.errors.HubError`.
        """
        address = self._address
        url = address or self._source
        headers = {"Range": f"bytes={start}-{end - 1}"}
        if address is None:
            headers |= self._hub.headers()
        with self._hub.session.stream("GET", url, headers=headers) as response:
            if address is not None and response.status_code in _EXPIRED:
                self._address = None
                raise Transient(HubUnreachable(host_of(url), "the signed address has expired"), 0.0)
            self._hub.check(response, self._file.path)
            self._check_identity(response)
            skip = self._check_range(response, start, end)
            if response.history and origin_of(response.url) != origin_of(self._source):
                self._address = str(response.url)
            with self._registered(response):
                yield self._pieces(response, skip, end - start)

    def _pieces(self, response: httpx2.Response, skip: int, wanted: int) -> Iterator[bytes]:
        host = host_of(response.url)
        patience = self._hub.patience
        since, counted = time.monotonic(), 0
        left = wanted
        try:
            for piece in response.iter_raw():
                now = time.monotonic()
                counted += len(piece)
                if now - since >= patience.stall_seconds:
                    if counted < patience.slowest * (now - since):
                        raise Transient(
                            HubUnreachable(host, f"gives {counted / (now - since):.0f} bytes a second")
                        )
                    since, counted = now, 0
                if self._stopped:
                    return
                if skip:
                    piece, skip = piece[skip:], max(0, skip - len(piece))
                if len(piece) > left:
                    if not self.whole:
                        raise HubMisbehaved(host, "sent more bytes than it was asked for")
                    piece = piece[:left]
                if piece:
                    left -= len(piece)
                    yield piece
                if left == 0:
                    return
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise failure(error, response.url) from error
        if left:
            raise Transient(HubUnreachable(host, f"ended an answer {left} bytes too early"))

    def _check_identity(self, response: httpx2.Response) -> None:
        """The commit and the hash that the Hub names on the way must be those that its listing named."""
        for step in (*response.history, response):
            if origin_of(step.request.url) != origin_of(self._source):
                continue
            commit = step.headers.get("X-Repo-Commit")
            if commit is not None and commit != self._commit:
                raise HubMisbehaved(
                    self.host, f"gives {self._file.path} of the commit {commit[:40]!r}, not of {self._commit}"
                )
            linked = step.headers.get("X-Linked-Etag", "").strip('"').lower()
            if linked and self._file.sha256 and linked != self._file.sha256:
                raise HubMisbehaved(
                    self.host,
                    f"names {linked[:80]!r} as the hash of {self._file.path}, "
                    f"its listing {self._file.sha256}",
                )
        etag = response.headers.get("ETag", "")
        if not _STRONG_ETAG.fullmatch(etag):
            return
        host = host_of(response.url)
        with self._lock:
            known, self._etag = self._etag, (host, etag)
        if known is not None and known[0] == host and known[1] != etag:
            raise HubMisbehaved(host, f"{self._file.path} was changed while it was fetched")

    def _check_range(self, response: httpx2.Response, start: int, end: int) -> int:
        """How many bytes of the answer come before the first wanted one; nearly always none."""
        host, size = host_of(response.url), self._file.size
        length = response.headers.get("Content-Length")
        if response.status_code == 200:
            if length is not None and length != str(size):
                raise HubMisbehaved(host, f"gives {length[:20]} bytes of {self._file.path}, which has {size}")
            if (start, end) != (0, size):
                fresh, self.whole = not self.whole, True
                if fresh and start:
                    raise NoRanges
            return start
        if response.status_code != 206:
            raise HubMisbehaved(host, f"answers HTTP {response.status_code} when asked for {self._file.path}")
        found = response.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(found)
        if match is None or tuple(map(int, match.groups())) != (start, end - 1, size):
            raise HubMisbehaved(
                host, f"answers with {found[:60]!r} when asked for bytes {start}-{end - 1}/{size}"
            )
        if length is not None and length != str(end - start):
            raise HubMisbehaved(host, f"announces {length[:20]} bytes when asked for {end - start}")
        return 0

    @contextmanager
    def _registered(self, response: httpx2.Response) -> Iterator[None]:
        """While the block runs, :meth:`stop` can end the connection."""
        stream = response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        with self._lock:
            if self._stopped:
                raise Transient(HubUnreachable(self.host, "the download was stopped"))
            if connection is not None:
                self._sockets.add(connection)
                _bound_window(connection)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(connection)


def _bound_window(connection: socket.socket) -> None:
    """Holds the window of a connection; SO_RCVBUF would end the system's own adjustment of it."""
    clamp = getattr(socket, "TCP_WINDOW_CLAMP", None)
    if clamp is not None:  # Linux
        with suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, clamp, WINDOW_BYTES)
