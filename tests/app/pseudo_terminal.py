"""A child process on a terminal of its own, driven as a person would: type, wait for what appears."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import pytest

CTRL_C, CTRL_D = b"\x03", b"\x04"


class PseudoTerminal:
    """Runs ``command``; ``seen`` is all that its terminal was sent."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.seen = b""
        self._mark = 0
        try:
            self.process = subprocess.Popen(
                command,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={"TERM": "xterm", **environment},
                start_new_session=True,
                preexec_fn=_take_terminal,
            )
        finally:
            os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._master)

    def send(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def expect(self, text: str, seconds: float = 30.0) -> str:
        """Wait until ``text`` appears behind what was expected before; returns what came until its end."""
        wanted, deadline = text.encode(), time.monotonic() + seconds
        while (at := self.seen.find(wanted, self._mark)) < 0:
            if not self._read(deadline):
                pytest.fail(f"{text!r} did not appear after {self.seen[self._mark :]!r}")
        came = self.seen[self._mark : at + len(wanted)]
        self._mark = at + len(wanted)
        return came.decode("utf-8", "replace")

    def pause(self, seconds: float) -> None:
        """Let time pass, and take what comes."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            continue

    def wait(self, seconds: float = 30.0) -> int:
        """Wait for the end of the process; returns its exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            continue
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        """More output; False at its end or at the deadline."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            chunk = os.read(self._master, 65536)
        except OSError:  # EIO: nobody holds the other side any more
            return False
        self.seen += chunk
        return bool(chunk)


def _take_terminal() -> None:
    """In the child: make the pty its controlling terminal, so that Ctrl-C becomes a signal."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
