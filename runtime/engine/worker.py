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
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec

from runtime.engine.backend import Constraint
from runtime.engine.child import end_with
from runtime.engine.config import EngineConfig
from runtime.engine.llama.backend import LlamaBackend
from runtime.engine.llama.embedder import Embedder
from runtime.engine.llama.model import LoadedModel, load_model
from runtime.engine.messages import (
    Cancel,
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    FromWorker,
    Load,
    LoadFailed,
    LoadProgress,
    ModelInfo,
    Notice,
    Prompt,
    Request,
    Shutdown,
    Tokenize,
    Tokenized,
    ToWorker,
)
from runtime.engine.prefixes import MIN_TOKENS, PrefixStore, identity_of
from runtime.engine.reports import cancelled_in_queue, failed
from runtime.engine.scheduler import Scheduler
from runtime.engine.slot import common_prefix
from runtime.engine.wire import Channel, encode
from runtime.errors import EngineError, GgufError, KernelError, LocalqError, ModelLoadFailed


class Ready(NamedTuple):
    """A request or a text whose tokens are known, or why they are not."""

    question: Request | Embed
    tokens: list[int] | LocalqError
    arrived: float
    constraint: Constraint | None = None
    head: int = 0


Work: TypeAlias = Cancel | Ready


class Worker:
    """Moves messages between the socket and the scheduler.

    Five threads: one reads the socket, so that a cancel is heard at once; one tokenises prompts, in their
    order; one answers questions about tokens; one compiles grammars; the main one computes, and is the only
    one that touches the contexts.
    """

    def __init__(self, channel: Channel[ToWorker], loaded: LoadedModel, config: EngineConfig) -> None:
        self._channel = channel
        self._vocabulary = loaded.vocabulary
        info = loaded.info
        self._limits: dict[type, int | None] = {
            Request: config.context_tokens,
            Embed: info.embedding_tokens if info.generates else None,
        }
        """The most tokens that a text may have; an encoder's tokenizer may shorten a text."""
        self._outbox: list[FromWorker] = []
        self._prefixes = open_prefixes(config, loaded.info, self._notice)
        self._backend = LlamaBackend(loaded, config, self._prefixes) if loaded.info.generates else None
        self._scheduler = Scheduler(self._backend, self._outbox.append) if self._backend else None
        pooling = loaded.info.pooling
        self._embedder = Embedder(
            loaded.model, config, pooling, whole=not loaded.info.generates or pooling == "rank"
        )
        self._to_embed: deque[Ready] = deque()
        self._embedding: Ready | None = None
        self._to_tokenize: queue.SimpleQueue[tuple[Request | Embed, float]] = queue.SimpleQueue()
        self._to_count: queue.SimpleQueue[Tokenize | Detokenize] = queue.SimpleQueue()
        self._to_compile: queue.SimpleQueue[Ready] = queue.SimpleQueue()
        self._on_the_way: set[int] = set()
        """Requests that the scheduler has not got yet."""
        self._cancelled_early: set[int] = set()
        self._inbox: deque[Work] = deque()
        self._work_arrived = threading.Event()

    def run(self) -> None:
        """Serve until the front says goodbye or is gone."""
        threads = (
            ("reader", self._read),
            ("tokenizer", self._tokenize),
            ("counter", self._count),
            ("compiler", self._compile),
        )
        for name, work in threads:
            threading.Thread(target=lambda work=work: end_with(work), name=name, daemon=True).start()
        while True:
            self._work_arrived.clear()
            if self._backend is not None:
                self._backend.request_abort(False)
            while self._inbox:
                self._take(self._inbox.popleft())
            busy = self._scheduler is not None and self._scheduler.step()
            busy = self._embed() or busy
            if self._outbox:
                self._channel.send(encode(self._outbox))
                self._outbox.clear()
            if not busy:
                self._work_arrived.wait()

    def _notice(self, text: str) -> None:
        self._channel.send(encode([Notice(text)]))

    # -- on the computing thread ----------------------------------------------------------------------------

    def _take(self, work: Work) -> None:
        if isinstance(work, Cancel):
            if work.id in self._on_the_way:
                self._cancelled_early.add(work.id)
            elif not self._cancel_embedding(work.id) and self._scheduler is not None:
                self._scheduler.cancel(work.id)
            return
        question, tokens, arrived, constraint, head = work
        self._on_the_way.discard(question.id)
        cancelled = question.id in self._cancelled_early
        self._cancelled_early.discard(question.id)
        if isinstance(tokens, LocalqError):
            self._outbox.append(failed(question.id, tokens))
        elif cancelled:
            self._outbox.append(cancelled_in_queue(question.id, tokens, time.perf_counter() - arrived))
        elif isinstance(question, Embed):
            self._to_embed.append(work)
        elif self._scheduler is not None:
            self._scheduler.submit(question, tokens, arrived, constraint, head)
        else:
            self._outbox.append(failed(question.id, EngineError("this model is an encoder: it only embeds")))

    def _cancel_embedding(self, request_id: int) -> bool:
        for entry in (*self._to_embed, *filter(None, [self._embedding])):
            if entry.question.id == request_id and isinstance(entry.tokens, list):
                if entry is self._embedding:
                    self._embedding = None
                else:
                    self._to_embed.remove(entry)
                self._outbox.append(
                    cancelled_in_queue(request_id, entry.tokens, time.perf_counter() - entry.arrived)
                )
                return True
        return False

    def _embed(self) -> bool:
        """Read the next piece of a text; False when there is none."""
        try:
            if self._embedding is None:
                if not self._to_embed:
                    return False
                self._embedding = self._to_embed.popleft()
                assert isinstance(self._embedding.tokens, list)
                self._embedder.begin(self._embedding.tokens)
            vector = self._embedder.step()
        except LocalqError as error:
            if self._embedding is not None:
                self._outbox.append(failed(self._embedding.question.id, error))
            self._embedding = None
            return True
        if vector is not None and self._embedding is not None:
            count = len(self._embedding.tokens) if isinstance(self._embedding.tokens, list) else 0
            self._outbox.append(
                Embedded(
                    id=self._embedding.question.id, values=vector.astype("<f4").tobytes(), prompt_tokens=count
                )
            )
            self._embedding = None
        return True

    # -- on threads of their own ----------------------------------------------------------------------------

    def _read(self) -> None:
        while (messages := self._channel.receive()) is not None:
            for message in messages:
                match message:
                    case Request() | Embed():
                        self._on_the_way.add(message.id)
                        self._to_tokenize.put((message, time.perf_counter()))
                    case Tokenize() | Detokenize():
                        self._to_count.put(message)
                    case Cancel():
                        self._put(message)
                        if self._backend and self._scheduler and message.id in self._scheduler.abortable:
                            self._backend.request_abort(True)
                    case Shutdown():
                        return
                    case Load():
                        raise EngineError("a worker loads one model in its life")

    def _tokenize(self) -> None:
        while True:
            message, arrived = self._to_tokenize.get()
            limit = self._limits[type(message)]
            tokens = self._tokens(message.prompt, limit)
            ready = Ready(message, tokens, arrived, head=self._head(message.prompt, tokens))
            if isinstance(message, Request) and message.grammar is not None and isinstance(tokens, list):
                self._to_compile.put(ready)
            else:
                self._put(ready)

    def _count(self) -> None:
        while True:
            message = self._to_count.get()
            answer: FromWorker
            if isinstance(message, Detokenize):
                answer = Detokenized(id=message.id, text=self._vocabulary.spelled(message.tokens))
            else:
                tokens = self._tokens(message.prompt)
                answer = (
                    failed(message.id, tokens)
                    if isinstance(tokens, LocalqError)
                    else Tokenized(id=message.id, tokens=tuple(tokens))
                )
            self._channel.send(encode([answer]))

    def _compile(self) -> None:
        # Imported by the first grammar: most workers never see one.
        ready = self._to_compile.get()
        from runtime.engine.llama.masks import GrammarCompiler

        compiler = GrammarCompiler(self._vocabulary)
        while True:
            try:
                assert isinstance(ready.question, Request) and ready.question.grammar is not None
                self._put(ready._replace(constraint=compiler.compile(ready.question.grammar)))
            except LocalqError as error:
                self._put(ready._replace(tokens=error))
            ready = self._to_compile.get()

    def _tokens(self, prompt: Prompt | tuple[int, ...], limit: int | None = None) -> list[int] | LocalqError:
        if isinstance(prompt, tuple):
            return list(prompt)
        try:
            return self._vocabulary.tokens(prompt, limit)
        except LocalqError as error:
            return error

    def _head(self, prompt: Prompt | tuple[int, ...], tokens: list[int] | LocalqError) -> int:
        """How many tokens of a prompt are worth keeping."""
        if self._prefixes is None or not isinstance(prompt, Prompt) or not isinstance(tokens, list):
            return 0
        begun = (
            self._tokens(msgspec.structs.replace(prompt, text=prompt.text[: prompt.head]))
            if prompt.head
            else []
        )
        count = common_prefix(begun, tokens) if isinstance(begun, list) else 0
        return count if MIN_TOKENS <= count < len(tokens) else 0

    def _put(self, work: Work) -> None:
        self._inbox.append(work)
        self._work_arrived.set()


def open_prefixes(config: EngineConfig, info: ModelInfo, notice: Callable[[str], None]) -> PrefixStore | None:
    """The kept beginnings for a loaded model, where there is a folder for them."""
    if config.prefix_folder is None or not info.generates:
        return None
    try:
        made_by = (version("llama-cpp-python"), config.kv_type, info.kernels)
        identity = identity_of(config.model_paths, *made_by)
        return PrefixStore(Path(config.prefix_folder), config.prefix_bytes, identity, notice)
    except OSError as error:
        notice(f"beginnings of prompts are not kept: {error}")
        return None


def main(descriptor: int) -> None:
    """Load the model that the first message names, then serve."""
    channel: Channel[ToWorker] = Channel(socket.socket(fileno=descriptor), ToWorker)
    first = channel.receive()
    if not first or not isinstance(first[0], Load):
        return
    config = first[0].config
    try:
        loaded = load_model(config, lambda fraction: channel.send(encode([LoadProgress(fraction)])))
    except (ModelLoadFailed, GgufError, KernelError) as error:
        channel.send(encode([LoadFailed(message=str(error))]))
        return
    channel.send(encode([loaded.info]))
    Worker(channel, loaded, config).run()


if __name__ == "__main__":
    # Native teardown has nothing to save, and may hang on threads that llama.cpp still runs.
    end_with(lambda: main(int(sys.argv[1])))
