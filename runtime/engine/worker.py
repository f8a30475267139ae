"""The worker process: one loaded model, a scheduler, and a socket to the front.

Run as ``python -m runtime.engine.worker FD``. A thread reads the socket and tokenises prompts while the main
thread computes; the main thread is the only one that touches the context. The process ends with its socket.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import deque
from typing import TypeAlias

from runtime.engine.config import EngineConfig
from runtime.engine.llama.backend import LlamaBackend
from runtime.engine.llama.model import LoadedModel, load_model
from runtime.engine.messages import (
    Cancel,
    FromWorker,
    Load,
    LoadFailed,
    LoadProgress,
    Request,
    Shutdown,
    Tokenize,
    Tokenized,
    ToWorker,
)
from runtime.engine.reports import failed
from runtime.engine.scheduler import Scheduler
from runtime.engine.wire import Channel
from runtime.errors import EngineError, LocalqError, ModelLoadFailed

Work: TypeAlias = Cancel | tuple[Request, list[int], float]


class Worker:
    """Moves messages between the socket and the scheduler."""

    def __init__(self, channel: Channel[ToWorker], loaded: LoadedModel, config: EngineConfig) -> None:
        self._channel = channel
        self._vocabulary = loaded.vocabulary
        self._backend = LlamaBackend(loaded, config)
        self._outbox: list[FromWorker] = []
        self._scheduler = Scheduler(self._backend, self._outbox.append)
        self._inbox: deque[Work] = deque()
        self._work_arrived = threading.Event()

    def run(self) -> None:
        """Serve until the front says goodbye or is gone."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        while True:
            self._work_arrived.clear()
            self._backend.request_abort(False)
            while self._inbox:
                self._take(self._inbox.popleft())
            busy = self._scheduler.step()
            if self._outbox:
                self._channel.send(self._outbox)
                self._outbox.clear()
            if not busy:
                self._work_arrived.wait()

    def _take(self, work: Work) -> None:
        if isinstance(work, Cancel):
            self._scheduler.cancel(work.id)
        else:
            request, tokens, arrived = work
            self._scheduler.submit(request, tokens, arrived)

    def _read(self) -> None:
        while (messages := self._channel.receive()) is not None:
            for message in messages:
                self._hear(message)
        os._exit(0)  # the front is gone: nobody is left to answer

    def _hear(self, message: ToWorker) -> None:
        match message:
            case Request(prompt=prompt):
                arrived = time.perf_counter()
                try:
                    tokens = list(prompt) if isinstance(prompt, tuple) else self._vocabulary.tokens(prompt)
                except LocalqError as error:
                    self._channel.send([failed(message.id, error)])
                    return
                self._inbox.append((message, tokens, arrived))
            case Cancel():
                self._inbox.append(message)
                if self._scheduler.reading_prompts:
                    self._backend.request_abort(True)
            case Tokenize(id=request_id, prompt=prompt):
                try:
                    answer: FromWorker = Tokenized(
                        id=request_id, tokens=tuple(self._vocabulary.tokens(prompt))
                    )
                except LocalqError as error:
                    answer = failed(request_id, error)
                self._channel.send([answer])
                return
            case Shutdown():
                os._exit(0)
            case Load():
                raise EngineError("a worker loads one model in its life")
        self._work_arrived.set()


def main(descriptor: int) -> int:
    """Load the model that the first message names, then serve; answers the exit code."""
    channel: Channel[ToWorker] = Channel(socket.socket(fileno=descriptor), ToWorker)
    first = channel.receive()
    if not first or not isinstance(first[0], Load):
        return 0
    config = first[0].config
    try:
        loaded = load_model(config, lambda fraction: channel.send([LoadProgress(fraction)]))
    except ModelLoadFailed as error:
        channel.send([LoadFailed(message=str(error))])
        return 1
    channel.send([loaded.info])
    try:
        Worker(channel, loaded, config).run()
    except BrokenPipeError:
        return 0  # the front is gone
    return 0


if __name__ == "__main__":
    # Native teardown has nothing to save, and may hang on threads that llama.cpp still runs.
    os._exit(main(int(sys.argv[1])))
