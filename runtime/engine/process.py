"""A worker process as the front sees it: started, spoken to, heard, and gone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Generic

import runtime
from runtime.engine.wire import Channel, Incoming
from runtime.errors import WorkerDied

LOG_LINES = 200
WORKER_DEFAULTS = {
    # An abort inside ggml would otherwise start a debugger first, and the front would wait for it.
    "GGML_NO_BACKTRACE": "1",
    # Threads that wait for each other spin for microseconds, then sleep. OpenMP's default is to spin for
    # milliseconds, which on a machine with other work takes the core from the very thread that is waited for.
    "GOMP_SPINCOUNT": "1000",
    # Large allocations (repacked weights, KV cache) ask for huge pages where the system grants them on
    # request: fewer address translations, 2 to 6 % faster decoding, about 15 MiB more memory.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
LINGER_SECONDS = 0.3
"""How long a worker whose socket has closed may take to end before it is killed."""


class WorkerProcess(Generic[Incoming]):
    """One life of a process that runs ``module`` and speaks ``incoming``, a union of message types.

    ``on_message`` and, once, ``on_death`` are called from its listening thread. ``remedy`` says after a death
    what comes next.
    """

    def __init__(
        self,
        module: str,
        incoming: object,
        on_message: Callable[[Incoming], None],
        on_death: Callable[[WorkerDied], None],
        *,
        remedy: str = "the next request starts it again",
    ) -> None:
        self._on_message = on_message
        self._on_death = on_death
        self._remedy = remedy
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._closing = False
        ours, theirs = socket.socketpair()
        self._channel: Channel[Incoming] = Channel(ours, incoming)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=worker_environment(),
                process_group=0,  # the terminal's Ctrl-C is for the front, which cancels the answer
            )
        self._log_reader = threading.Thread(target=self._read_log, name="worker-log", daemon=True)
        self._log_reader.start()
        threading.Thread(target=self._listen, name="worker-listener", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, frame: bytes) -> None:
        """Speak to the worker. When it is gone the listener says so: nothing is raised here."""
        with contextlib.suppress(OSError):
            self._channel.send(frame)

    def log(self) -> str:
        """The last lines that llama.cpp and Python wrote."""
        return "".join(self._log)

    def close(self) -> None:
        """End the worker and wait for it; no death is reported."""
        self._closing = True
        self._channel.close()
        self._reap()

    def kill(self) -> None:
        """End the process at once; no death is reported."""
        self._closing = True
        self._process.kill()
        self._channel.close()
        self._reap()

    def _listen(self) -> None:
        cause = ""
        try:
            while (messages := self._channel.receive()) is not None:
                for message in messages:
                    self._on_message(message)
        except Exception as error:  # a damaged frame, or a callback of the front's that failed
            cause = f" ({type(error).__name__}: {error})"
            self._process.kill()
        self._channel.close()
        code = self._reap()
        if not self._closing:
            self._log_reader.join(LINGER_SECONDS)
            log = self.log()
            self._on_death(
                WorkerDied(f"{death_message(code)}{cause}; {self._remedy}", returncode=code, log=log)
            )

    def _reap(self) -> int:
        try:
            return self._process.wait(LINGER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _read_log(self) -> None:
        stream = self._process.stderr
        if stream is not None:
            with stream:
                for line in stream:
                    self._log.append(line.decode("utf-8", "replace"))


def worker_environment() -> dict[str, str]:
    """The front's environment, with this package found first even when it is not installed."""
    root = str(Path(runtime.__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    paths = {"PYTHONPATH": f"{root}{os.pathsep}{inherited}" if inherited else root}
    return WORKER_DEFAULTS | os.environ | paths


def death_message(returncode: int) -> str:
    """What happened to the worker, in words."""
    if returncode < 0:
        name = signal.Signals(-returncode).name if -returncode in list(signal.Signals) else str(-returncode)
        hint = "; the system may be out of memory" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{hint}"
    return f"the worker process ended with code {returncode}"
