"""Asking llama.cpp about itself, in a short child process: this one never loads it."""

from __future__ import annotations

import signal
import subprocess
import sys

import msgspec

from runtime.engine.probe import Probe
from runtime.engine.process import worker_environment
from runtime.errors import EngineError

PROBE_SECONDS = 60.0
PROBE_COMMAND = ["-m", "runtime.engine.probe"]


class LlamaBroken(EngineError):
    """llama.cpp cannot be loaded on this machine; the message says how it failed."""


def ask_llama() -> Probe:
    """Versions, features and devices of the installed llama.cpp. Raises LlamaBroken."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", *PROBE_COMMAND],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            env=worker_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LlamaBroken(f"llama.cpp did not start within {PROBE_SECONDS:g} s") from error
    if done.returncode:
        raise LlamaBroken(explain(done.returncode, done.stderr.decode("utf-8", "replace")))
    return msgspec.json.decode(done.stdout, type=Probe)


def explain(returncode: int, stderr: str) -> str:
    """Why a child that loads llama.cpp ended."""
    if -returncode == signal.SIGILL:
        return "llama.cpp was compiled for another processor: it ends at an instruction that this one lacks"
    if returncode < 0:
        return f"loading llama.cpp was ended by signal {-returncode}"
    words = stderr.strip().splitlines()
    return f"llama.cpp cannot be loaded: {words[-1] if words else f'exit code {returncode}'}"
