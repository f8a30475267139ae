"""One life of a worker: it loads a model, answers requests, and ends; whoever still waits then is told."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from runtime.engine.backoff import Backoff
from runtime.engine.config import EngineConfig
from runtime.engine.messages import (
    Cancel,
    Detokenized,
    Embedded,
    FailedEvent,
    FinishedEvent,
    FromWorker,
    Load,
    LoadFailed,
    LoadProgress,
    ModelInfo,
    Notice,
    Question,
    Tokenized,
)
from runtime.engine.process import WorkerProcess
from runtime.engine.wire import MAX_FRAME_BYTES, encode
from runtime.errors import InvalidRequest, LocalqError, ModelLoadFailed, WorkerDied

Receiver: TypeAlias = Callable[[Any], None]

log = logging.getLogger("localq.engine")


class Life:
    """A worker process with its model and the requests that live in it.

    It is over once, whether the worker died, failed to load or was ended; then every receiver has had its
    last message, and :meth:`ask` hands the reason to new ones.
    """

    def __init__(self, config: EngineConfig, on_progress: Callable[[float], None], backoff: Backoff) -> None:
        self._info: ModelInfo | None = None
        self._error: LocalqError | None = None
        self._on_progress = on_progress
        self._backoff = backoff
        self._settled = threading.Event()
        self._lock = threading.Lock()
        self._receivers: dict[int, Receiver] = {}
        self._worker: WorkerProcess[FromWorker] = WorkerProcess(
            "runtime.engine.worker", FromWorker, self._hear, self._die
        )
        self.send(Load(config))

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._worker.pid

    @property
    def over(self) -> bool:
        """The worker can take no more requests."""
        return self._error is not None

    def wait(self) -> ModelInfo:
        """Wait until the model is loaded. Raises ModelLoadFailed, or why the life ended before."""
        self._settled.wait()
        if self._info is None:
            raise self._error or ModelLoadFailed("the worker ended before the model was loaded")
        return self._info

    def ask(self, message: Question, receiver: Receiver) -> None:
        """Send a message whose answers go to ``receiver``. Raises InvalidRequest when it cannot travel."""
        frame = checked_frame(message)
        with self._lock:
            over = self._error
            if over is None:
                self._receivers[message.id] = receiver
        if over is None:
            self._worker.send(frame)
        else:
            receiver(copy.copy(over))

    def send(self, message: Load | Cancel) -> None:
        """Send a message that has no answer of its own."""
        self._worker.send(encode([message]))

    def end(self, error: LocalqError) -> None:
        """End the worker; those who still wait get ``error``."""
        self._finish(error)
        self._worker.close()

    # -- on the worker's listening thread -------------------------------------------------------------------

    def _hear(self, message: FromWorker) -> None:
        match message:
            case LoadProgress(fraction=fraction):
                self._on_progress(fraction)
            case Notice(text=text):
                log.warning("%s", text)
            case ModelInfo():
                self._info = message
                self._settled.set()
            case LoadFailed(message=text):
                self._backoff.died()
                self._finish(ModelLoadFailed(text, log=self._worker.log()))
            case _:
                self._deliver(message)

    def _deliver(self, message: Any) -> None:
        if isinstance(message, FinishedEvent | FailedEvent | Tokenized | Detokenized | Embedded):
            receiver = self._forget(message.id)
        else:
            receiver = self._receivers.get(message.id)
        if isinstance(message, FinishedEvent) and message.reason != "cancelled":
            self._backoff.worked()
        if receiver is not None:
            receiver(message)

    def _die(self, error: WorkerDied) -> None:
        if self._error is None:
            self._backoff.died()
        self._finish(error if self._info is not None else ModelLoadFailed(str(error), log=error.log))

    def _forget(self, request_id: int) -> Receiver | None:
        with self._lock:
            return self._receivers.pop(request_id, None)

    def _finish(self, error: LocalqError) -> None:
        with self._lock:
            if self._error is None:
                self._error = error
            waiting = list(self._receivers.values())
            self._receivers.clear()
        self._settled.set()
        for receiver in waiting:
            receiver(copy.copy(error))  # each raises its own: tracebacks are not shared between threads


def checked_frame(message: Question) -> bytes:
    """The message as it travels. Raises InvalidRequest for text that is no Unicode or too long."""
    try:
        frame = encode([message])
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"the text has a lone surrogate at character {error.start}; give valid Unicode", field="prompt"
        ) from None
    except (OverflowError, TypeError, msgspec.ValidationError) as error:
        raise InvalidRequest(f"the request cannot be sent: {error}", field="request") from None
    if len(frame) > MAX_FRAME_BYTES:
        raise InvalidRequest(
            f"the request has {len(frame)} bytes; at most {MAX_FRAME_BYTES} are accepted", field="prompt"
        )
    return frame
