"""The front's hand on the template process: start it, ask it, kill it in time."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, cast

import psutil

import runtime
from runtime.engine.templates import wire
from runtime.errors import EngineError, TemplateError, TemplateTimeout

MODULE = "runtime.engine.templates.process"
LEAST_WAIT = 0.02
START_SECONDS = 30.0
"""Importing jinja2 takes 0.1 s on a quiet machine, and much longer from a cold disk."""

KEPT_VARIABLES = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
"""What an interpreter may need to start; nothing else of the environment reaches the child."""


class TemplateChild:
    """One template process, started. Not thread-safe: one question at a time.

    Any error of :meth:`ask` but a plain TemplateError of the template's own leaves it ``dead``.
    """

    def __init__(self) -> None:
        """Start the process and wait until it is ready. Raises EngineError."""
        if not sys.executable:
            raise EngineError("sys.executable is empty: no Python to render chat templates with")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
            )
        except OSError as error:
            raise EngineError(f"the chat template process did not start: {error}") from error
        self._stdin, self._stdout, self._stderr = (
            cast("IO[bytes]", pipe)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        self.dead = False
        self._usage, self._seconds = psutil.Process(self._process.pid), 0.0
        reply = self._exchange(None, math.inf, START_SECONDS)
        if reply != wire.READY:
            if self._late:
                reason = f"it was not ready after {START_SECONDS:g} s"
            else:
                reason = reply[1:].decode("utf-8", "replace") or self._last_words() or "it gave no reason"
            self.kill()
            raise EngineError(f"the chat template process did not start: {reason}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def seconds(self) -> float:
        """Processor time that the process has used; the last that was known of one that has ended."""
        with contextlib.suppress(psutil.Error):
            times = self._usage.cpu_times()
            self._seconds = times.user + times.system
        return self._seconds

    def ask(self, request: bytes, seconds: float) -> bytes:
        """The payload of the reply to ``request``, which must take at most ``seconds`` of processor time.

        Raises TemplateError with what the template did wrong, TemplateTimeout when it was too slow or too
        large.
        """
        reply = self._exchange(request, seconds, wire.WALL_SECONDS)
        kind, payload = reply[:1], reply[1:]
        match kind:
            case wire.TEXT | wire.NAMES:
                return payload
            case wire.FAILURE:
                raise TemplateError(payload.decode("utf-8", "replace"))
            case wire.MEMORY:
                self.kill()
                raise TemplateTimeout(
                    f"the chat template wanted more than {wire.MEMORY_BYTES >> 20} MiB of memory and was "
                    "stopped; shorten the conversation, or use another template"
                )
            case _ if self._late:
                raise TemplateTimeout(
                    f"the chat template ran for more than {wire.RENDER_SECONDS:g} s and was stopped; "
                    "shorten the conversation, or use another template"
                )
            case _:
                self.kill()
                raise TemplateError(
                    f"the chat template ended its process (code {self._process.returncode}); "
                    "use another template"
                )

    def kill(self) -> None:
        """End the process now."""
        self.dead = True
        self._process.kill()
        self._process.wait()
        self._close_pipes()

    def close(self) -> None:
        """Let the process end by itself, as it does when its input ends."""
        self.dead = True
        with contextlib.suppress(OSError):
            self._stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self.kill()

    def _exchange(self, request: bytes | None, seconds: float, wall_seconds: float) -> bytes:
        """Send a request and wait for the reply, which is empty if the process ended instead.

        ``_late`` says whether it was killed for being late; the alarm is a thread because no pipe can be read
        with a time limit on every system.
        """
        self._late = False
        over = threading.Event()
        most, deadline = self.seconds + seconds, time.monotonic() + wall_seconds
        alarm = threading.Thread(target=self._watch, args=(over, most, deadline), daemon=True)
        alarm.start()
        try:
            if request is not None:
                wire.write_frame(self._stdin, request)
            return wire.read_frame(self._stdout) or b""
        except OSError:
            return b""
        finally:
            over.set()
            alarm.join()
            if self._late:
                self.kill()

    def _watch(self, over: threading.Event, most: float, deadline: float) -> None:
        """Ends the process when it has used ``most`` seconds, or at ``deadline``, unless ``over`` then."""
        while (left := min(most - self.seconds, deadline - time.monotonic())) > 0:
            if over.wait(max(left, LEAST_WAIT)):
                return
        self._late = True
        self._process.kill()

    def _last_words(self) -> str:
        """The end of what the process wrote to stderr before it ended."""
        self._process.kill()
        return self._stderr.read()[-2000:].decode("utf-8", "replace").strip()

    def _close_pipes(self) -> None:
        for pipe in (self._stdin, self._stdout, self._stderr):
            with contextlib.suppress(OSError):
                pipe.close()


def _environment() -> dict[str, str]:
    """The child imports from where the front does, whatever the working directory holds (``-P``)."""
    own = str(Path(runtime.__file__).resolve().parent.parent)
    places = [own, *(place for place in sys.path if Path(place).is_absolute() and os.pathsep not in place)]
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(places)}
