"""The engine, as the front uses it: a model in a worker process that may die without taking the front along.

    with Engine(EngineConfig(model_paths=("model.gguf",))) as engine:
        for event in engine.chat([{"role": "user", "content": "Hello"}]):
            ...

The front never imports llama_cpp. Every method may be called from any thread.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from runtime.engine.backoff import Backoff
from runtime.engine.config import EngineConfig
from runtime.engine.generation import Generation, error_of
from runtime.engine.messages import (
    Cancel,
    FailedEvent,
    FinishedEvent,
    FromWorker,
    Load,
    LoadFailed,
    LoadProgress,
    ModelInfo,
    Prompt,
    Request,
    SamplingParams,
    Tokenize,
    Tokenized,
)
from runtime.engine.peak import peak_memory_bytes
from runtime.engine.process import WorkerProcess
from runtime.engine.templates.renderer import TemplateRenderer
from runtime.engine.templates.template import model_template
from runtime.engine.validation import check_request
from runtime.errors import EngineError, LocalqError, ModelLoadFailed, WorkerDied
from runtime.gguf import open_model
from runtime.hardware import usable_cores

Receiver = Callable[[Any], None]


class Life:
    """One worker process, from its start to its death, and what it said about its model."""

    def __init__(self, config: EngineConfig, on_progress: Callable[[float], None], engine: Engine) -> None:
        self.info: ModelInfo | None = None
        self.error: LocalqError | None = None
        self._settled = threading.Event()
        self._on_progress = on_progress
        self._engine = engine
        self.worker = WorkerProcess(self._hear, self._die)
        self.worker.send([Load(config)])

    def wait(self) -> ModelInfo:
        """Wait until the model is loaded; raises ModelLoadFailed."""
        self._settled.wait()
        if self.info is None:
            self.worker.close()
            raise self.error or ModelLoadFailed("the worker ended before the model was loaded")
        return self.info

    def _hear(self, message: FromWorker) -> None:
        match message:
            case LoadProgress(fraction=fraction):
                self._on_progress(fraction)
            case ModelInfo():
                self.info = message
                self._settled.set()
            case LoadFailed(message=text):
                self._fail_to_load(text)
            case _:
                self._engine.deliver(message)

    def _die(self, error: WorkerDied) -> None:
        if self.info is None:
            self._fail_to_load(str(error))
        else:
            self._engine.bury(self, error)

    def _fail_to_load(self, text: str) -> None:
        if self.error is None:
            self.error = ModelLoadFailed(text, log=self.worker.log())
        self._settled.set()


class Engine:
    """A model behind a worker process: started by the first use, and again by the next use after a death."""

    def __init__(self, config: EngineConfig, *, on_progress: Callable[[float], None] | None = None) -> None:
        threads = config.threads or usable_cores().physical
        self._config = msgspec.structs.replace(config, threads=threads)
        self._on_progress = on_progress or (lambda fraction: None)
        self._renderer = TemplateRenderer()
        self._ids = itertools.count(1)
        self._starting = threading.Lock()
        self._lock = threading.Lock()
        self._life: Life | None = None
        self._receivers: dict[int, Receiver] = {}
        self._backoff = Backoff()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- life -----------------------------------------------------------------------------------------------

    def start(self) -> ModelInfo:
        """Load the model unless it is loaded. Raises GgufError or ModelLoadFailed."""
        return self._alive()[1]

    @property
    def info(self) -> ModelInfo:
        """The loaded model."""
        return self.start()

    @property
    def pid(self) -> int | None:
        """The worker's process id; None while there is no worker."""
        life = self._life
        return life.worker.pid if life else None

    def peak_memory_bytes(self) -> int:
        """The most memory that the living worker has had in use, resident file pages included."""
        life, _ = self._alive()
        return peak_memory_bytes(life.worker.pid)

    def close(self) -> None:
        """End the worker; requests that still run fail."""
        with self._starting:
            self._closed = True
            life, self._life = self._life, None
            if life is not None:
                life.worker.close()
        self._fail_all(EngineError("the engine was closed while the request ran"))
        self._renderer.close()

    def _alive(self) -> tuple[Life, ModelInfo]:
        with self._starting:
            if self._closed:
                raise EngineError("the engine is closed; make a new one")
            life = self._life
            if life is None:
                open_model(self._config.model_paths)
                time.sleep(self._backoff.seconds)
                life = Life(self._config, self._on_progress, self)
                life.wait()
                self._life = life
            return life, life.wait()

    # -- requests -------------------------------------------------------------------------------------------

    def submit(
        self,
        prompt: Prompt | Sequence[int],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        logprobs: int | None = None,
        ignore_eos: bool = False,
        cache_prompt: bool = True,
    ) -> Generation:
        """Generate after ``prompt``. Raises InvalidRequest; what happens later comes with the events."""
        life, info = self._alive()
        request = Request(
            id=next(self._ids),
            prompt=prompt if isinstance(prompt, Prompt) else tuple(prompt),
            sampling=sampling or SamplingParams(),
            max_tokens=max_tokens,
            stop=tuple(stop),
            logprobs=logprobs,
            ignore_eos=ignore_eos,
            cache_prompt=cache_prompt,
        )
        check_request(request, info)
        generation = Generation(request.id, self._cancel)
        self._send(life, request, generation.put)
        return generation

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Generation:
        """Generate the next message of a conversation; see :meth:`render` and :meth:`submit`."""
        prompt = self.render(messages, tools=tools, template=template, variables=variables)
        return self.submit(prompt, **options)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> Prompt:
        """The prompt that a chat template makes of a conversation of OpenAI's shape.

        The template is the model's own, or the built-in one that ``template`` names; ``variables`` are more
        variables for it (``enable_thinking``). Raises TemplateError and InvalidRequest.
        """
        chosen = model_template(self.info, template)
        return self._renderer.render(chosen, messages, tools=tools, kwargs=variables)

    def tokenize(self, prompt: Prompt) -> tuple[int, ...]:
        """The tokens of a prompt, as a request with it would have them."""
        life, _ = self._alive()
        answers: queue.SimpleQueue[Tokenized | FailedEvent | LocalqError] = queue.SimpleQueue()
        self._send(life, Tokenize(id=next(self._ids), prompt=prompt), answers.put)
        answer = answers.get()
        if isinstance(answer, Tokenized):
            return answer.tokens
        raise error_of(answer) if isinstance(answer, FailedEvent) else answer

    def _send(self, life: Life, message: Request | Tokenize, receiver: Receiver) -> None:
        with self._lock:
            if self._life is not life:
                raise WorkerDied("the worker process ended before it got the request; send it again")
            self._receivers[message.id] = receiver
        life.worker.send([message])

    def _cancel(self, request_id: int) -> None:
        life = self._life
        if life is not None:
            life.worker.send([Cancel(request_id)])

    # -- what the worker says, on its listening thread ------------------------------------------------------

    def deliver(self, message: Any) -> None:
        """Hand a message to the request that it belongs to."""
        last = isinstance(message, FinishedEvent | FailedEvent | Tokenized)
        with self._lock:
            receiver = self._receivers.pop(message.id, None) if last else self._receivers.get(message.id)
        if isinstance(message, FinishedEvent):
            self._backoff.worked()
        if receiver is not None:
            receiver(message)

    def bury(self, life: Life, error: WorkerDied) -> None:
        """The worker died: every live request hears of it; the next one starts another worker."""
        with self._lock:
            if self._life is life:
                self._life = None
        self._backoff.died()
        self._fail_all(error)

    def _fail_all(self, error: LocalqError) -> None:
        with self._lock:
            receivers = list(self._receivers.values())
            self._receivers.clear()
        for receiver in receivers:
            receiver(error)
