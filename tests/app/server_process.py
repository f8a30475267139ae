"""``localq serve`` as a process of its own, as people run it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS = 120.0


@dataclass
class ServerProcess:
    """A server that listens."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    connect: Callable[[int], http.client.HTTPConnection] | None = None
    """Opens a connection to its port; plain HTTP where there is none."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        raw: bytes | None = None,
        timeout: float = 120.0,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request: status, headers in lower case, body."""
        connection = (
            self.connect(self.port)
            if self.connect
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        )
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if data is not None else {}
        try:
            connection.request(method, path, data, sent | (headers or {}))
            response = connection.getresponse()
            return (
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()

    def post(self, path: str, body: Any, **options: Any) -> Any:
        """The JSON of a request that must succeed."""
        status, _, answer = self.request("POST", path, body, **options)
        assert status == 200, answer
        return json.loads(answer)

    def get(self, path: str) -> Any:
        """The JSON of a request that must succeed."""
        status, _, answer = self.request("GET", path)
        assert status == 200, answer
        return json.loads(answer)

    def worker_pids(self) -> list[int]:
        """Processes of the loaded models."""
        return [model["pid"] for model in self.get("/v1/running")["models"]]


@contextlib.contextmanager
def serving(
    folder: Path,
    *words: str,
    environment: dict[str, str] | None = None,
    connect: Callable[[int], http.client.HTTPConnection] | None = None,
) -> Iterator[ServerProcess]:
    """A server of its own store in ``folder``; it is ended, and must end well, at the end of the block."""
    log = folder / "serve.log"
    environ = {
        **os.environ,
        "LOCALQ_HOME": str(folder / "home"),
        "LOCALQ_CONFIG": str(folder / "config.toml"),
        **(environment or {}),
    }
    (folder / "config.toml").touch()
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli.main", "serve", "--port", "0", "--json", *words],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environ,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        port = int(json.loads(line)["url"].rsplit(":", 1)[1].split("/")[0])
        server = ServerProcess(process, port, log, connect)
        wait_until_loaded(server, expected=bool([word for word in words if word.endswith(".gguf")]))
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        if process.stdout is not None:
            process.stdout.close()


def wait_until_loaded(server: ServerProcess, *, expected: bool) -> None:
    """Until the model that is loaded at once is there."""
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        health = server.get("/health")
        if health["status"] == "ok" and (health["models"] or not expected):
            return
        time.sleep(0.05)
    raise AssertionError(f"not loaded after {START_SECONDS} s: {server.log.read_text()}")
