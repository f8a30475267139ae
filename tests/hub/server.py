"""A Hub on this machine: what localq uses of huggingface.co's HTTP API, and a content network beside it.

Answers have the form of the real ones (``/api/models/...``, ``/tree/``, ``/resolve/``, ``X-Repo-Commit``,
``X-Linked-Etag``, ``X-Error-Code``, ``Link`` to the next page). Files of Git LFS are not given by the Hub
itself: it redirects to a second server, on another port, with a signed address. A test changes behaviour by
``fault``: a function that may answer a request in its own way.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

Fault = Callable[["Request"], bool]
PIECE = 1 << 18


@dataclass
class HubFile:
    """A file of a repository. ``lfs`` files have a SHA-256, the others a git hash."""

    path: str
    data: bytes | Path
    lfs: bool
    listing: dict[str, Any] | None = None
    """What the tree says of it, in the place of the truth."""

    @property
    def size(self) -> int:
        return self.data.stat().st_size if isinstance(self.data, Path) else len(self.data)

    @property
    def sha256(self) -> str:
        if not hasattr(self, "_sha256"):
            self._sha256 = hashlib.sha256(self.content()).hexdigest()
        return self._sha256

    @property
    def oid(self) -> str:
        return hashlib.sha1(f"blob {self.size}\0".encode() + self.content()).hexdigest()

    def content(self) -> bytes:
        return self.data.read_bytes() if isinstance(self.data, Path) else self.data

    def part(self, start: int, end: int) -> bytes:
        if isinstance(self.data, Path):
            with self.data.open("rb") as file:
                file.seek(start)
                return file.read(end - start)
        return self.data[start:end]

    def entry(self) -> dict[str, Any]:
        """As the tree lists it."""
        if self.listing is not None:
            return {"type": "file", "path": self.path, **self.listing}
        entry: dict[str, Any] = {"type": "file", "oid": "0" * 40, "size": self.size, "path": self.path}
        if self.lfs:
            entry["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 134}
        else:
            entry["oid"] = self.oid
        return entry


@dataclass
class HubRepo:
    """A repository at one commit."""

    name: str
    files: list[HubFile]
    commit: str = "c" * 40
    info: dict[str, Any] = field(default_factory=dict)
    token: str | None = None
    """Who may see it; None is everybody."""
    gated: bool = False

    def find(self, path: str) -> HubFile | None:
        return next((file for file in self.files if file.path == path), None)


@dataclass
class Seen:
    """A request, as it arrived."""

    server: str
    """``hub`` or ``cdn``."""
    method: str
    target: str
    headers: dict[str, str]
    bytes_sent: int = 0


class FakeHub:
    """Serves repositories from the moment it is made. Use it as a context manager."""

    def __init__(self) -> None:
        self.repos: dict[str, HubRepo] = {}
        self.seen: list[Seen] = []
        self.fault: Fault | None = None
        self.page = 1000
        self._servers = [_Server(self, "hub"), _Server(self, "cdn")]
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._servers[0].server_address[1]}"

    @property
    def cdn(self) -> str:
        return f"http://127.0.0.1:{self._servers[1].server_address[1]}"

    def add(self, name: str, files: Mapping[str, bytes | Path], **options: Any) -> HubRepo:
        """A repository; GGUF, safetensors and large files are in LFS, as on the Hub."""
        made = [
            HubFile(path, data, lfs=path.endswith((".gguf", ".safetensors", ".bin")))
            for path, data in files.items()
        ]
        self.repos[name] = HubRepo(name, made, **options)
        return self.repos[name]

    @property
    def bytes_sent(self) -> int:
        """Of all files, by both servers."""
        return sum(seen.bytes_sent for seen in self.seen)

    def forget(self) -> None:
        self.seen.clear()

    def record(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)

    def __enter__(self) -> FakeHub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def server_bind(self) -> None:
        # What waits in a large buffer of the sender would count as sent.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        super().server_bind()

    def __init__(self, hub: FakeHub, kind: str) -> None:
        self.hub = hub
        self.kind = kind
        super().__init__(("127.0.0.1", 0), Request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are part of the tests."""


class Request(BaseHTTPRequestHandler):
    """One connection; ``fault`` functions get it, with the file and the range that are asked for."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    file: HubFile | None
    start: int
    end: int
    requested: str
    """As it came: with a host, where the client takes this server for a proxy."""

    @property
    def hub(self) -> FakeHub:
        return self.server.hub

    @property
    def kind(self) -> str:
        return self.server.kind

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.seen = Seen(
            self.kind, self.command, self.path, {key.lower(): value for key, value in self.headers.items()}
        )
        self.hub.record(self.seen)
        self.file, self.start, self.end = None, 0, 0
        self.requested = self.path
        parts = urlsplit(self.path)
        try:
            if self.kind == "cdn":
                self._cdn(parts.path)
            elif parts.path.startswith("/api/models"):
                self._api(parts.path, parse_qs(parts.query))
            else:
                self._resolve(unquote(parts.path))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # -- what the Hub answers

    def _api(self, path: str, query: dict[str, list[str]]) -> None:
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        if path == "/api/models":
            return self._search(query)
        repo = self.hub.repos.get(match[1]) if match else None
        if match is None or repo is None or not self._may(repo):
            return self.refuse(404 if match else 400, "RepoNotFound", "Repository not found")
        if match[3] not in (None, "main", repo.commit):
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        if self._faulty():
            return None
        if match[2] == "tree":
            first = int(query.get("cursor", ["0"])[0])
            page = repo.files[first : first + self.hub.page]
            headers = {}
            if first + self.hub.page < len(repo.files):
                headers["Link"] = (
                    f'<{self.hub.endpoint}{path}?recursive=True&cursor={first + self.hub.page}>; rel="next"'
                )
            return self.send_json([file.entry() for file in page], headers)
        return self.send_json(self._info(repo))

    def _info(self, repo: HubRepo) -> dict[str, Any]:
        return {"_id": "1", "id": repo.name, "sha": repo.commit, "gated": repo.gated, "tags": [], **repo.info}

    def _search(self, query: dict[str, list[str]]) -> None:
        words = query.get("search", [""])[0].lower().split()
        filters = query.get("filter", [])
        found = [
            self._info(repo)
            for repo in self.hub.repos.values()
            if all(word in repo.name.lower() for word in words)
            and all(tag in repo.info.get("tags", []) for tag in filters)
        ]
        found.sort(key=lambda info: -info.get(query.get("sort", ["downloads"])[0], 0))
        self.send_json(found[: int(query.get("limit", ["1000"])[0])])

    def _resolve(self, path: str) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repo = self.hub.repos.get(match[1]) if match else None
        if match is None or repo is None or not self._may(repo):
            return self.refuse(404, "RepoNotFound", "Repository not found")
        if repo.gated and "authorization" not in self.seen.headers:
            return self.refuse(403, "GatedRepo", f"Access to model {repo.name} is restricted")
        if match[2] not in ("main", repo.commit):
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        self.file = repo.find(match[3])
        if self.file is None:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        self._take_range(self.file)
        if self._faulty():
            return None
        if not self.file.lfs:
            return self.send_file(headers={"X-Repo-Commit": repo.commit, "ETag": f'"{self.file.oid}"'})
        location = f"{self.hub.cdn}/{repo.name}/{quote(match[3])}?Signature=secret"
        return self.redirect(
            location,
            headers={
                "X-Repo-Commit": repo.commit,
                "X-Linked-Size": str(self.file.size),
                "X-Linked-Etag": f'"{self.file.sha256}"',
            },
        )

    def _cdn(self, path: str) -> None:
        owner, name, rest = unquote(path).strip("/").split("/", 2)
        self.file = self.hub.repos[f"{owner}/{name}"].find(rest)
        if self.file is None or "Signature=secret" not in self.path:
            return self.refuse(403, "", "no signature")
        self._take_range(self.file)
        if self._faulty():
            return None
        return self.send_file(headers={"ETag": f'"{self.file.sha256[:32]}"'})

    def _may(self, repo: HubRepo) -> bool:
        return repo.token is None or self.headers.get("Authorization") == f"Bearer {repo.token}"

    def _faulty(self) -> bool:
        return self.hub.fault is not None and self.hub.fault(self)

    def _take_range(self, file: HubFile) -> None:
        self.start, self.end = 0, file.size
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match:
            self.start, self.end = int(match[1]), min(int(match[2]) + 1, file.size)

    # -- how it is sent

    @property
    def ranged(self) -> bool:
        return "Range" in self.headers

    def send_json(self, document: Any, headers: Mapping[str, str] | None = None) -> None:
        self.send_raw(
            200, json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})}
        )

    def send_raw(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_head(status, {"Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        """The status and these headers alone; one may be anything."""
        self.send_response_only(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        codes = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        self.send_raw(status, json.dumps({"error": message}).encode(), {**codes, **(headers or {})})

    def redirect(self, location: str, status: int = 302, headers: Mapping[str, str] | None = None) -> None:
        self.send_head(status, {"Location": location, "Content-Length": "0", **(headers or {})})

    def file_headers(self) -> dict[str, str]:
        """Of a faultless answer with the bytes that were asked for."""
        assert self.file is not None
        headers = {"Content-Length": str(self.end - self.start), "Accept-Ranges": "bytes"}
        if self.ranged:
            headers["Content-Range"] = f"bytes {self.start}-{self.end - 1}/{self.file.size}"
        return headers

    def send_file(self, *, status: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        """A faultless answer."""
        self.send_head(status or (206 if self.ranged else 200), {**self.file_headers(), **(headers or {})})
        if self.command != "HEAD":
            for piece in self.pieces():
                self.put(piece)

    def pieces(self, size: int = PIECE) -> Iterator[bytes]:
        """The bytes that were asked for."""
        assert self.file is not None
        for start in range(self.start, self.end, size):
            yield self.file.part(start, min(start + size, self.end))

    def put(self, data: bytes) -> None:
        """Sends bytes of a file, and counts them."""
        self.wfile.write(data)
        self.seen.bytes_sent += len(data)

    def cut(self) -> None:
        """Ends the connection hard, as a broken network does."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()
        self.close_connection = True


@contextmanager
def serving() -> Iterator[FakeHub]:
    with FakeHub() as hub:
        yield hub
