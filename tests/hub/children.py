"""Processes that pull, for tests that kill them, run many of them, or look at their memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.hub.part import CHUNK_BYTES
from app.store.temporary import PULL_PREFIX
from tests.hub.server import Fault, Request

REPOSITORY = Path(__file__).resolve().parents[2]
HEADER_BYTES = 64


class PullChild:
    """One process; it is gone when the block ends."""

    def __init__(self, home: Path, patience: str = "patient") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.pull_child", str(home), patience],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> dict[str, Any]:
        """Its next answer; the first says that it is ready."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "died"}
        return answer

    def ask(self, reference: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(reference + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def kept_bytes(home: Path, size: int) -> int:
    """Bytes of a file of ``size`` that the parts of killed pulls have, as their logs say."""
    kept = 0
    for log in (home / "tmp").glob(f"{PULL_PREFIX}*/chunks"):
        data = log.with_name("data")
        there = data.stat().st_size if data.exists() else 0  # gone, if it was killed while it was published
        for index, mark in enumerate(log.read_bytes()[HEADER_BYTES:]):
            start, end = index * CHUNK_BYTES, min(size, (index + 1) * CHUNK_BYTES)
            kept += end - start if mark and end <= there else 0
    return kept


def throttled(bytes_per_second: float, piece: int = 1 << 17) -> Fault:
    """Files come no faster than that on each connection, so that little is under way at any time."""
    import time

    def fault(request: Request) -> bool:
        if request.kind != "cdn":
            return False
        request.send_head(206, request.file_headers())
        due = time.monotonic()
        for data in request.pieces(piece):
            request.put(data)
            due += len(data) / bytes_per_second
            time.sleep(max(0.0, due - time.monotonic()))
        return True

    return fault
