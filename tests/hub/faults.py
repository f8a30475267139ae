"""What a broken or hostile Hub does, one function for each entry of the list N."""

from __future__ import annotations

import gzip
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from app.errors import HubBusy, HubError, HubMisbehaved, HubUnreachable, NotAllowed, NotOnHub, WrongHash
from tests.hub.server import Fault, Request

MIB = 1 << 20
WEIGHTS = "model-Q4_K_M.gguf"


@dataclass(frozen=True)
class Case:
    """A fault, and what must come of it: an error, or the model all the same."""

    id: str
    what: str
    fault: Callable[[], Fault]
    """Made anew for each test: some count."""
    error: type[HubError] | None


def on(kind: str, path: str = WEIGHTS) -> Callable[[Callable[[Request], None]], Fault]:
    """A fault that answers GET requests for a file, at the Hub (``hub``) or the content network (``cdn``)."""

    def decorate(answer: Callable[[Request], None]) -> Fault:
        def fault(request: Request) -> bool:
            if request.kind != kind or request.file is None or request.file.path != path:
                return False
            answer(request)
            return True

        return fault

    return decorate


def headers(kind: str = "cdn", **changed: str | None) -> Fault:
    """The faultless answer with other headers; ``_`` stands for ``-``, None leaves one out."""

    @on(kind)
    def fault(request: Request) -> None:
        plain = {"ETag": '"abc"', **request.file_headers()}
        for key, value in changed.items():
            plain.pop(key.replace("_", "-"), None)
            if value is not None:
                plain[key.replace("_", "-")] = value
        request.send_head(206, plain)
        for piece in request.pieces():
            request.put(piece)

    return fault


def linked(**changed: str) -> Fault:
    """The Hub's redirect with other headers."""

    @on("hub")
    def fault(request: Request) -> None:
        assert request.file is not None
        told = {"X-Repo-Commit": "c" * 40, "X-Linked-Etag": f'"{request.file.sha256}"'}
        told |= {key.replace("_", "-"): value for key, value in changed.items()}
        path = f"{request.hub.cdn}/org/model/{request.file.path}?Signature=secret"
        request.redirect(path, headers=told)

    return fault


def length(change: int) -> Fault:
    @on("cdn")
    def fault(request: Request) -> None:
        plain = request.file_headers()
        plain["Content-Length"] = str(int(plain["Content-Length"]) + change)
        request.send_head(206, plain)
        for piece in request.pieces():
            request.put(piece)
        request.close_connection = True

    return fault


@on("cdn")
def whole(request: Request) -> None:
    """N04: the range is ignored."""
    assert request.file is not None
    request.start, request.end = 0, request.file.size
    request.send_head(200, {"Content-Length": str(request.file.size)})
    for piece in request.pieces():
        request.put(piece)


@on("cdn")
def other_range(request: Request) -> None:
    """N05."""
    assert request.file is not None
    first, last = request.start + 1, request.end
    request.send_head(
        206,
        {**request.file_headers(), "Content-Range": f"bytes {first}-{last}/{request.file.size}"},
    )
    for piece in request.pieces():
        request.put(piece)


def changing() -> Fault:
    """N06: another strong ETag for every range."""
    count = itertools.count()

    @on("cdn")
    def fault(request: Request) -> None:
        request.send_file(headers={"ETag": f'"{next(count)}"'})

    return fault


@on("cdn")
def drip(request: Request) -> None:
    """N07: a byte a second (here: twenty)."""
    request.send_head(206, request.file_headers())
    for piece in request.pieces(1):
        request.put(piece)
        request.wfile.flush()
        time.sleep(0.05)


@on("cdn")
def stall(request: Request) -> None:
    """N08: after 99 % nothing more."""
    assert request.file is not None
    request.send_head(206, request.file_headers())
    limit = request.file.size * 99 // 100
    for piece in request.pieces(1 << 14):
        if request.start >= limit:
            break
        request.put(piece)
        request.start += len(piece)
    request.wfile.flush()
    time.sleep(1.0)
    request.close_connection = True


@on("cdn")
def reset(request: Request) -> None:
    """N09: after each MiB."""
    request.send_head(206, request.file_headers())
    for piece in itertools.islice(request.pieces(1 << 16), 16):
        request.put(piece)
    request.cut()


def redirecting(target: str, status: int = 302) -> Fault:
    @on("hub")
    def fault(request: Request) -> None:
        request.redirect(target.replace("SELF", request.hub.endpoint), status)

    return fault


def hops() -> Fault:
    """N10: each redirect leads to one that is not there yet."""
    count = itertools.count()

    def fault(request: Request) -> bool:
        if request.kind != "hub" or request.file is None:
            return False
        request.redirect(f"{request.path.partition('?')[0]}?hop={next(count)}")
        return True

    return fault


def gzip_bomb() -> Fault:
    """N11: 10 MB that become 10 GB: a tenth is enough to be seen."""
    bomb = gzip.compress(bytes(64 << 20))

    def fault(request: Request) -> bool:
        kind = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        request.send_raw(200, bomb, kind)
        return True

    return fault


def endless_tree(one_page: bool) -> Fault:
    """N12: a million files, in pages of a thousand or all in one."""

    def entries(count: int, first: int) -> Iterator[dict[str, Any]]:
        for number in range(first, first + count):
            yield {"type": "file", "oid": "a" * 40, "size": 1, "path": f"folder/file-{number}.json"}

    def fault(request: Request) -> bool:
        if "/tree/" not in request.path:
            return False
        first = int(request.path.rpartition("cursor=")[2]) if "cursor=" in request.path else 0
        if not one_page:
            page = request.path.partition("?")[0]
            link = f'<{request.hub.endpoint}{page}?cursor={first + 1000}>; rel="next"'
            request.send_json(list(entries(1000, first)), {"Link": link})
            return True
        request.send_head(200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        for start in range(0, 1_000_000, 1000):
            text = json.dumps(list(entries(1000, start)))[1:-1]
            piece = (("[" if start == 0 else ",") + text).encode()
            request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        request.wfile.write(b"1\r\n]\r\n0\r\n\r\n")
        return True

    return fault


def status(code: int, kind: str = "cdn", where: str = "file", **extra: str) -> Fault:
    """N13, for the files or for what the Hub says of the repository."""

    def fault(request: Request) -> bool:
        asked = "file" if request.file is not None else "api"
        if request.kind != kind or asked != where:
            return False
        request.refuse(code, extra.get("error", ""), "no", {k: v for k, v in extra.items() if k != "error"})
        return True

    return fault


def failing_once(code: int) -> Fault:
    """N13: every second request fails."""
    count = itertools.count()

    def fault(request: Request) -> bool:
        if next(count) % 2:
            return False
        request.refuse(code, "", "no", {"Retry-After": "0"})
        return True

    return fault


def flipped(offset: int) -> Fault:
    """N14: one bit."""

    @on("cdn")
    def fault(request: Request) -> None:
        request.send_head(206, request.file_headers())
        at = request.start
        for piece in request.pieces():
            if at <= offset < at + len(piece):
                changed = bytearray(piece)
                changed[offset - at] ^= 4
                piece = bytes(changed)
            request.put(piece)
            at += len(piece)

    return fault


@on("cdn")
def truncated(request: Request) -> None:
    """N15: half of what the header says, then the end."""
    request.send_head(206, request.file_headers())
    half = (request.end - request.start) // 2
    for piece in request.pieces(1 << 12):
        if half <= 0:
            break
        request.put(piece[:half])
        half -= len(piece)
    request.close_connection = True


def truncated_always() -> Fault:
    """N15, and never a byte."""

    @on("cdn")
    def fault(request: Request) -> None:
        request.send_head(206, request.file_headers())
        request.close_connection = True

    return fault


def listing(**changed: Any) -> Fault:
    """N16: the tree says this of the weights."""

    def fault(request: Request) -> bool:
        if "/tree/" not in request.path:
            return False
        entries = [file.entry() for file in request.hub.repos["org/model"].files]
        for entry in entries:
            if entry["path"] == WEIGHTS:
                sha256 = entry["lfs"]["oid"]
                lfs = {
                    key: value.replace("SHA256", sha256) if isinstance(value, str) else value
                    for key, value in changed.items()
                }
                if changed.get("upper"):
                    lfs = {"oid": sha256.upper()}
                entry["lfs"] = {**entry["lfs"], **lfs} if changed else None
        request.send_json(entries)
        return True

    return fault


def moving() -> Fault:
    """N18: files suddenly come from another commit."""
    return linked(X_Repo_Commit="d" * 40)


def nonsense(body: bytes, where: str) -> Fault:
    """An answer that is JSON, or not, but none of the Hub's."""

    def fault(request: Request) -> bool:
        if where not in request.path:
            return False
        request.send_raw(200, body, {"Content-Type": "application/json"})
        return True

    return fault


def case(
    id: str, what: str, fault: Fault | Callable[[], Fault], error: type[HubError] | None, made: bool = True
) -> Case:
    return Case(id, what, fault if not made else lambda: fault, error)  # type: ignore[arg-type,return-value]


CASES = [
    case("N01", "an ETag that is a path", headers(ETag='"../../../x"'), None),
    case("N01", "a linked ETag that is a path", linked(X_Linked_Etag='"../../x"'), HubMisbehaved),
    case("N02", "an empty ETag", headers(ETag=""), None),
    case("N02", "no ETag", headers(ETag=None), None),
    case("N02", "an ETag of 4 KiB", headers(ETag=f'"{"a" * 4096}"'), None),
    case("N02", "a linked ETag that is no hash", linked(X_Linked_Etag='"xyz"'), HubMisbehaved),
    case("N02", "an empty linked ETag", linked(X_Linked_Etag=""), None),
    case("N03", "a length of one too many", length(1), HubMisbehaved),
    case("N03", "a length of one too few", length(-1), HubMisbehaved),
    case("N04", "200 in the place of 206", whole, None),
    case("N05", "another range than was asked for", other_range, HubMisbehaved),
    case("N06", "a file that changes between parts", changing, HubMisbehaved, made=False),
    case("N07", "one byte at a time", drip, HubUnreachable),
    case("N08", "nothing more after 99 %", stall, HubUnreachable),
    case("N09", "a reset after every MiB", reset, None),
    case(
        "N10",
        "a redirect to itself",
        redirecting("SELF/org/model/resolve/main/model-Q4_K_M.gguf"),
        HubMisbehaved,
    ),
    case("N10", "a redirect without end", hops, HubMisbehaved, made=False),
    case("N10", "a redirect to a file", redirecting("file:///etc/passwd"), HubMisbehaved),
    case("N10", "a redirect to ftp", redirecting("ftp://127.0.0.1/x"), HubMisbehaved),
    case("N10", "a redirect to cloud metadata", redirecting("http://169.254.169.254/latest"), HubMisbehaved),
    case("N10", "the same as a number", redirecting("http://2852039166/latest"), HubMisbehaved),
    case("N10", "the same in IPv6", redirecting("http://[::ffff:169.254.169.254]/latest"), HubMisbehaved),
    case("N10", "a redirect to nowhere", redirecting("http:///x"), HubUnreachable),
    case("N11", "a compressed bomb", gzip_bomb, HubMisbehaved, made=False),
    case("N12", "a million files in pages", endless_tree(one_page=False), HubMisbehaved),
    case("N12", "a million files in one page", endless_tree(one_page=True), HubMisbehaved),
    case("N13", "401 for the repository", status(401, "hub", "api"), NotOnHub),
    case("N13", "403 for the repository", status(403, "hub", "api"), NotAllowed),
    case("N13", "404 for the repository", status(404, "hub", "api"), NotOnHub),
    case("N13", "gated", status(403, "hub", "api", error="GatedRepo"), NotAllowed),
    case("N13", "429 and a day to wait", status(429, "hub", "api", **{"Retry-After": "86400"}), HubBusy),
    case("N13", "429 for a file", status(429, **{"Retry-After": "86400"}), HubBusy),
    case(
        "N13",
        "429 with a date far away",
        status(429, **{"Retry-After": "Fri, 31 Dec 2100 00:00:00 GMT"}),
        HubBusy,
    ),
    case("N13", "429 with nonsense", status(429, **{"Retry-After": "soon"}), HubBusy),
    case("N13", "500 for the repository", status(500, "hub", "api"), HubBusy),
    case("N13", "500 for a file", status(500), HubBusy),
    case("N13", "503 for a file", status(503), HubBusy),
    case("N13", "404 for a file", status(404, "hub", error="EntryNotFound"), NotOnHub),
    case("N13", "403 from the content network again and again", status(403), HubError),
    case("N13", "418", status(418, "hub", "api"), HubMisbehaved),
    case("N13", "503 every second time", lambda: failing_once(503), None, made=False),
    case("N13", "429 every second time", lambda: failing_once(429), None, made=False),
    case("N14", "a flipped bit in the middle", flipped(3 * MIB + 17), WrongHash),
    case("N14", "a flipped bit at the end", flipped(5 * MIB), WrongHash),
    case("N15", "a body that ends too early", truncated, HubUnreachable),
    case("N15", "a body that never begins", truncated_always(), HubUnreachable),
    case("N16", "a hash in capitals", listing(upper=True), None),
    case("N16", "a hash that is too short", listing(oid="abc"), HubError),
    case("N16", "a hash that is a path", listing(oid="../../x"), HubError),
    case("N16", "an empty hash", listing(oid=""), HubError),
    case("N16", "a hash that is a number", listing(oid=7), HubError),
    case("N16", "a size below zero", listing(size=-1), HubError),
    case("N16", "a size beyond all disks", listing(size=1 << 63), HubError),
    case("N16", "a size that is a text", listing(size="5"), HubError),
    case("N16", "no LFS entry for a file of LFS", listing(), HubError),
    case("N18", "a revision that moves", moving(), HubMisbehaved),
    case("N19", "no JSON", nonsense(b"<html>", "/api/"), HubMisbehaved),
    case("N19", "an empty answer", nonsense(b"", "/api/"), HubMisbehaved),
    case("N19", "a list for an object", nonsense(b"[]", "/api/"), HubMisbehaved),
    case("N19", "an object without anything", nonsense(b"{}", "/api/"), HubMisbehaved),
    case(
        "N19",
        "a commit that is a path",
        nonsense(b'{"id": "org/model", "sha": "../../x"}', "/api/"),
        HubMisbehaved,
    ),
    case(
        "N19",
        "another name that is a path",
        nonsense(b'{"id": "../x", "sha": "%s"}' % (b"c" * 40), "?expand"),
        HubError,
    ),
    case("N19", "JSON that is very deep", nonsense(b"[" * 100_000, "/api/"), HubMisbehaved),
    case("N19", "a tree of numbers", nonsense(b"[1, 2]", "/tree/"), HubMisbehaved),
    case(
        "N19",
        "a tree without sizes",
        nonsense(b'[{"type": "file", "path": "a.gguf"}]', "/tree/"),
        HubMisbehaved,
    ),
    case("N19", "invalid UTF-8", nonsense(b'{"id": "\xff"}', "/api/"), HubMisbehaved),
]
