"""The worker process: one loaded model, a scheduler, and a socket to the front.

Run as ``python -m runtime.engine.worker FD``; the process ends with its socket.
"""

from __future__ import annotations

import queue
import socket
import sys
import threading
import time
from collections import deque
from typing import TypeAlias

from runtime.engine.child import end_with
from runtime.engine.config import EngineConfig
from runtime.engine.llama.backend import LlamaBackend
from runtime.engine.llama.model import LoadedModel, load_model
from runtime.engine.messages import (
    Cancel,
    FromWorker,
    Load,
    LoadFailed,
    LoadProgress,
    Prompt,
    Request,
    Shutdown,
    Tokenize,
    Tokenized,
    ToWorker,
)
from runtime.engine.reports import cancelled_in_queue, failed
from runtime.engine.scheduler import Scheduler
from runtime.engine.wire import Channel, encode
from runtime.errors import EngineError, LocalqError, ModelLoadFailed

Work: TypeAlias = Cancel | tuple[Request, list[int] | LocalqError, float]


class Worker:
    """Moves messages between the socket and the scheduler.

    Three threads: one reads the socket, so that a cancel is heard at once; one tokenises prompts, in their
    order; the main one computes, and is the only one that touches the context.
    """

    def __init__(self, channel: Channel[ToWorker], loaded: LoadedModel, config: EngineConfig) -> None:
        self._channel = channel
        self._vocabulary = loaded.vocabulary
        self._backend = LlamaBackend(loaded, config)
        self._outbox: list[FromWorker] = []
        self._scheduler = Scheduler(self._backend, self._outbox.append)
        self._to_tokenize: queue.SimpleQueue[tuple[Request | Tokenize, float]] = queue.SimpleQueue()
        self._on_the_way: set[int] = set()
        """Requests that the scheduler has not got yet."""
        self._cancelled_early: set[int] = set()
        self._inbox: deque[Work] = deque()
        self._work_arrived = threading.Event()

    def run(self) -> None:
        """Serve until the front says goodbye or is gone."""
        for name, work in (("reader", self._read), ("tokenizer", self._tokenize)):
            threading.Thread(target=lambda work=work: end_with(work), name=name, daemon=True).start()
        while True:
            self._work_arrived.clear()
            self._backend.request_abort(False)
            while self._inbox:
                self._take(self._inbox.popleft())
            busy = self._scheduler.step()
            if self._outbox:
                self._channel.send(encode(self._outbox))
                self._outbox.clear()
            if not busy:
                self._work_arrived.wait()

    def _take(self, work: Work) -> None:
        if isinstance(work, Cancel):
            if work.id in self._on_the_way:
                self._cancelled_early.add(work.id)
            else:
                self._scheduler.cancel(work.id)
            return
        request, tokens, arrived = work
        self._on_the_way.discard(request.id)
        if isinstance(tokens, LocalqError):
            self._outbox.append(failed(request.id, tokens))
        elif request.id in self._cancelled_early:
            self._cancelled_early.discard(request.id)
            self._outbox.append(cancelled_in_queue(request.id, tokens, time.perf_counter() - arrived))
        else:
            self._scheduler.submit(request, tokens, arrived)

    def _read(self) -> None:
        while (messages := self._channel.receive()) is not None:
            for message in messages:
                match message:
                    case Request():
                        self._on_the_way.add(message.id)
                        self._to_tokenize.put((message, time.perf_counter()))
                    case Tokenize():
                        self._to_tokenize.put((message, time.perf_counter()))
                    case Cancel():
                        self._put(message)
                        if message.id in self._scheduler.abortable:
                            self._backend.request_abort(True)
                    case Shutdown():
                        return
                    case Load():
                        raise EngineError("a worker loads one model in its life")

    def _tokenize(self) -> None:
        while True:
            message, arrived = self._to_tokenize.get()
            tokens = self._tokens(message.prompt)
            if isinstance(message, Request):
                self._put((message, tokens, arrived))
            elif isinstance(tokens, LocalqError):
                self._channel.send(encode([failed(message.id, tokens)]))
            else:
                self._channel.send(encode([Tokenized(id=message.id, tokens=tuple(tokens))]))

    def _tokens(self, prompt: Prompt | tuple[int, ...]) -> list[int] | LocalqError:
        if isinstance(prompt, tuple):
            return list(prompt)
        try:
            return self._vocabulary.tokens(prompt)
        except LocalqError as error:
            return error

    def _put(self, work: Work) -> None:
        self._inbox.append(work)
        self._work_arrived.set()


def main(descriptor: int) -> None:
    """Load the model that the first message names, then serve."""
    channel: Channel[ToWorker] = Channel(socket.socket(fileno=descriptor), ToWorker)
    first = channel.receive()
    if not first or not isinstance(first[0], Load):
        return
    config = first[0].config
    try:
        loaded = load_model(config, lambda fraction: channel.send(encode([LoadProgress(fraction)])))
    except ModelLoadFailed as error:
        channel.send(encode([LoadFailed(message=str(error))]))
        return
    channel.send(encode([loaded.info]))
    Worker(channel, loaded, config).run()


if __name__ == "__main__":
    # Native teardown has nothing to save, and may hang on threads that llama.cpp still runs.
    end_with(lambda: main(int(sys.argv[1])))
