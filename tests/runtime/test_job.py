"""A one-shot process: its answer, its progress, and every way in which it can end without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from runtime.engine.job import run_job
from runtime.engine.process import worker_environment
from runtime.errors import (
    DoesNotFit,
    EngineError,
    InvalidRequest,
    JobCancelled,
    ModelLoadFailed,
    TooFewTokens,
    WorkerDied,
)
from tests.runtime.job_child import Answer, Ask, Step

CHILD = "tests.runtime.job_child"
ROOT = Path(__file__).resolve().parents[2]


def run(do: str, steps: int = 0, stop: threading.Event | None = None) -> tuple[Answer, list[Step]]:
    heard: list[Step] = []
    answer = run_job(CHILD, Ask(do, steps), progress=Step, result=Answer, on_progress=heard.append, stop=stop)
    return answer, heard


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether the process has ended; one that waits to be reaped by somebody else counts as ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_a_job_answers_after_its_progress() -> None:
    answer, heard = run("hello", steps=3)
    assert answer == Answer("hello")
    assert [step.number for step in heard] == [0, 1, 2]
    assert heard[0].pid != os.getpid()
    assert gone(heard[0].pid)


def test_an_error_of_the_job_is_an_error_of_the_caller() -> None:
    with pytest.raises(ModelLoadFailed, match="no such model"):
        run("load")
    with pytest.raises(TooFewTokens) as short:
        run("short")
    assert (short.value.tokens, short.value.needed_tokens) == (3, 512)
    with pytest.raises(DoesNotFit) as large:
        run("memory")
    assert (large.value.needed_bytes, large.value.available_bytes) == (2**40, 2**30)
    with pytest.raises(InvalidRequest) as request:
        run("request")
    assert request.value.field == "steps"
    with pytest.raises(EngineError, match=r"model\.gguf: ends early"):
        run("file")
    with pytest.raises(EngineError, match="it went wrong"):
        run("plain")
    with pytest.raises(EngineError, match="No space left on device: 'somewhere'"):
        run("disk")


def test_a_crash_is_a_typed_error_with_the_last_words() -> None:
    with pytest.raises(WorkerDied, match="SIGSEGV") as died:
        run("crash")
    assert died.value.returncode == -signal.SIGSEGV
    assert "the last words" in died.value.log


def test_an_early_end_is_a_typed_error() -> None:
    with pytest.raises(WorkerDied, match="code 7"):
        run("exit")


def test_a_bug_in_the_job_leaves_its_traceback() -> None:
    with pytest.raises(WorkerDied) as died:
        run("bug")
    assert "RuntimeError: a bug of ours" in died.value.log


def test_bytes_that_are_no_message_end_the_job() -> None:
    with pytest.raises(WorkerDied):
        run("noise")


def test_stopping_kills_the_process() -> None:
    stop, heard = threading.Event(), []

    def note(step: Step) -> None:
        heard.append(step)
        stop.set()

    started = time.monotonic()
    with pytest.raises(JobCancelled):
        run_job(CHILD, Ask("hang", 1), progress=Step, result=Answer, on_progress=note, stop=stop)
    assert time.monotonic() - started < 10
    assert gone(heard[0].pid)


def test_an_exception_of_the_caller_kills_the_process() -> None:
    heard: list[Step] = []

    def fail(step: Step) -> None:
        heard.append(step)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(CHILD, Ask("hang", 1), progress=Step, result=Answer, on_progress=fail)
    assert gone(heard[0].pid)


def test_the_process_ends_with_its_parent() -> None:
    code = (
        "from runtime.engine.job import run_job\n"
        "from tests.runtime.job_child import Answer, Ask, Step\n"
        "show = lambda step: print(step.pid, flush=True)\n"
        f"run_job({CHILD!r}, Ask('hang', 1), progress=Step, result=Answer, on_progress=show)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=worker_environment(),
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child, seconds=0.2)
        parent.kill()
    assert gone(child)


def test_text_that_is_no_unicode_starts_no_process() -> None:
    with pytest.raises(InvalidRequest, match="lone surrogate"):
        run("\ud800")
