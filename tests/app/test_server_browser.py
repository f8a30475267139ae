"""A real browser on another origin: it reads nothing of the endpoint, and changes nothing."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.app.server_process import ServerProcess, serving
from tests.conftest import REPOSITORY

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PAGE = (REPOSITORY / "tests" / "app" / "browser" / "attack.html").read_text()
SECONDS = 90.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here (Debian: apt install chromium)"),
]


class Site:
    """A site of somebody else's: it serves the page, and takes what the page has found."""

    def __init__(self, address: str, port: int = 0) -> None:
        self.found: dict[str, Any] = {}
        self.reported = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = self.path.startswith("/?")
                body = PAGE.encode() if page else b""
                self.send_response(200 if page else 404)
                self.send_header("content-type", "text/html")
                self.send_header("cache-control", "max-age=3600" if page else "no-store")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(204)
                self.end_headers()
                if self.path == "/report":
                    site.found = json.loads(body)
                    site.reported.set()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((address, port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def visit(url: str, profile: Path, reports: Site, names: dict[str, str]) -> dict[str, Any]:
    """Open ``url`` in a browser for which ``names`` are bound to addresses; what its page reports."""
    assert BROWSER is not None
    rules = ", ".join(f"MAP {name} {address}" for name, address in names.items())
    reports.reported.clear()
    browser = subprocess.Popen(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", f"--user-data-dir={profile}", f"--host-resolver-rules={rules}",
            "--remote-debugging-port=0", url,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert reports.reported.wait(SECONDS), "the page has not reported"
        time.sleep(1)  # what was sent without waiting for an answer arrives
        return reports.found
    finally:
        browser.terminate()
        browser.wait(20)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site("127.0.0.1") as made:
        yield made


@pytest.fixture
def guarded(tiny_path: Path, tmp_path: Path, site: Site) -> Iterator[ServerProcess]:
    """An endpoint that one origin may use, and no other."""
    friend = f"http://friend.test:{site.port}"
    with serving(tmp_path, str(tiny_path), "--ctx", "256", "--allow-origin", friend) as server:
        yield server


def state(server: ServerProcess) -> tuple[Any, ...]:
    """What a request could change: the models, and how many requests were answered, by route."""
    running = [(model["id"], model["pid"]) for model in server.get("/v1/running")["models"]]
    metrics = server.request("GET", "/metrics")[2].decode()
    answered = [
        line
        for line in metrics.splitlines()
        if line.startswith("localq_requests_total") and 'status="2' in line
        if not any(path in line for path in ("/health", "/metrics", "/v1/running"))
    ]
    return running, answered


def address(server: ServerProcess, site: Site, *, host: str = "127.0.0.1") -> str:
    """What the page is told: where the endpoint is, and where to report."""
    return f"target=http://{host}:{server.port}&reports=http://127.0.0.1:{site.port}/report"


@pytest.mark.parametrize("name", ["evil.test", "127.0.0.1", "localhost"])
def test_a_page_of_another_origin_reads_and_changes_nothing(
    guarded: ServerProcess, site: Site, tmp_path: Path, name: str
) -> None:
    """Also where only the port differs, which a browser takes for the same site."""
    before = state(guarded)
    url = f"http://{name}:{site.port}/?{address(guarded, site)}"
    found = visit(url, tmp_path / "profile", site, {"evil.test": "127.0.0.1"})
    assert len(found) >= 14
    assert {what: said for what, said in found.items() if said != "nothing"} == {}
    assert state(guarded) == before
    assert guarded.process.poll() is None


def test_the_same_page_reads_where_its_origin_is_allowed(
    guarded: ServerProcess, site: Site, tmp_path: Path
) -> None:
    """The page would find what there is to find."""
    before = state(guarded)
    url = f"http://friend.test:{site.port}/?{address(guarded, site)}"
    found = visit(url, tmp_path / "profile", site, {"friend.test": "127.0.0.1"})
    assert '"object":"list"' in found["fetch /v1/models"]
    assert "chat.completion" in found["fetch POST as JSON"]
    assert state(guarded) != before


def test_a_name_that_is_bound_to_this_machine_later_reads_and_changes_nothing(
    guarded: ServerProcess, site: Site, tmp_path: Path
) -> None:
    """DNS rebinding: the page comes out of the browser's cache, its origin is now the endpoint's address."""
    with contextlib.ExitStack() as stack:
        try:
            other = stack.enter_context(Site("127.0.0.2", guarded.port))
        except OSError:
            pytest.skip("this system has one loopback address")
        query = address(guarded, site, host="evil.test")
        url = f"http://evil.test:{guarded.port}/?{query}"
        visit(url, tmp_path / "profile", site, {"evil.test": "127.0.0.2"})
        other.close()
        before = state(guarded)
        found = visit(url, tmp_path / "profile", site, {"evil.test": "127.0.0.1"})
    assert len(found) >= 14
    told = {what: said for what, said in found.items() if said != "nothing"}
    assert all("is not called" in str(said) for said in told.values()), told
    assert "fetch /v1/models" in told  # the page is of that origin: it may read, and reads a refusal
    assert state(guarded) == before
