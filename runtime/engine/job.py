"""A job: a process of its own that loads a model, does one thing with it, answers, and ends.

    result = run_job(
        "runtime.engine.observe", request, progress=Progress, result=Observed, on_progress=show, stop=event
    )

The module's ``__main__`` calls :func:`runtime.engine.child.serve_job`.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from runtime import errors
from runtime.engine.process import WorkerProcess
from runtime.engine.wire import MAX_FRAME_BYTES, encode
from runtime.errors import (
    EngineError,
    InvalidRequest,
    JobCancelled,
    LocalqError,
    ModelLoadFailed,
    WorkerDied,
)

Progress = TypeVar("Progress", bound=msgspec.Struct)
Result = TypeVar("Result", bound=msgspec.Struct)
STOP_POLL_SECONDS = 0.05


class Failure(msgspec.Struct, frozen=True, tag=True):
    """Child -> front, instead of a result: an error of ``runtime.errors`` by its name."""

    kind: str
    message: str
    facts: dict[str, int | str] = {}
    """The error's numbers and texts, by the names of its attributes."""


def run_job(
    module: str,
    request: msgspec.Struct,
    *,
    progress: type[Progress],
    result: type[Result],
    on_progress: Callable[[Progress], None] = lambda message: None,
    stop: threading.Event | None = None,
) -> Result:
    """Run ``module`` in a process of its own and give its answer to ``request``.

    ``progress`` and ``result`` are tagged structs; ``on_progress`` is called in the caller's thread. Setting
    ``stop`` kills the process, and so does any exception in here, Ctrl-C included. The process also ends when
    this one does. Raises the LocalqError that the job failed with, WorkerDied with the log's last lines when
    the process ended without an answer, JobCancelled after ``stop``, InvalidRequest for a request that
    cannot travel.
    """
    frame = request_frame(request)
    heard: queue.SimpleQueue[Progress | Result | Failure | WorkerDied] = queue.SimpleQueue()
    process: WorkerProcess[Progress | Result | Failure] = WorkerProcess(
        module, progress | result | Failure, heard.put, heard.put, remedy="start it again"
    )
    try:
        process.send(frame)
        while True:
            if stop is not None and stop.is_set():
                raise JobCancelled("the job was stopped before it was done")
            message = None
            with contextlib.suppress(queue.Empty):
                message = heard.get(timeout=None if stop is None else STOP_POLL_SECONDS)
            if isinstance(message, result):
                return message
            if isinstance(message, progress):
                on_progress(message)
            elif isinstance(message, Failure):
                raise error_of(message, process.log())
            elif isinstance(message, WorkerDied):
                raise message
    finally:
        process.kill()


def request_frame(request: msgspec.Struct) -> bytes:
    """The request as it travels. Raises InvalidRequest for text that is no Unicode, or too much of it."""
    try:
        frame = encode([request])
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"a text of the job has a lone surrogate at character {error.start}; give valid Unicode",
            field="request",
        ) from None
    if len(frame) > MAX_FRAME_BYTES:
        raise InvalidRequest(
            f"the texts of the job have {len(frame)} bytes; at most {MAX_FRAME_BYTES} are accepted",
            field="request",
        )
    return frame


def error_of(failure: Failure, log: str) -> LocalqError:
    """The error that a job failed with, of its own class where ``runtime.errors`` has it."""
    kind = getattr(errors, failure.kind, None)
    if kind is ModelLoadFailed:
        return ModelLoadFailed(failure.message, log=log)
    if isinstance(kind, type) and issubclass(kind, LocalqError):
        with contextlib.suppress(TypeError):  # an error that is made of more than a message and facts
            error: LocalqError = kind(failure.message, **failure.facts)
            return error
    return EngineError(failure.message)
