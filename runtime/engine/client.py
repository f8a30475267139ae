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
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from runtime.engine.answers.families import Family, family_of
from runtime.engine.backoff import Backoff
from runtime.engine.config import EngineConfig
from runtime.engine.generation import Generation, Receiver, error_of
from runtime.engine.grammar import check_grammar
from runtime.engine.life import Life
from runtime.engine.messages import (
    Cancel,
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    FailedEvent,
    FinishedEvent,
    Grammar,
    ModelInfo,
    Prompt,
    Question,
    Request,
    SamplingParams,
    Tokenize,
    Tokenized,
)
from runtime.engine.peak import peak_memory_bytes
from runtime.engine.templates.renderer import TemplateRenderer
from runtime.engine.templates.template import model_template
from runtime.engine.validation import check_config, check_request, check_stop, check_tokens
from runtime.errors import EngineError, LocalqError
from runtime.gguf import open_model
from runtime.hardware import usable_cores


class Engine:
    """A model behind a worker process: started by the first use, and again by the next use after a death."""

    def __init__(self, config: EngineConfig, *, on_progress: Callable[[float], None] | None = None) -> None:
        """``on_progress`` gets the share of the model that is loaded. Raises InvalidRequest."""
        check_config(config)
        threads = config.threads or usable_cores().physical
        self._config = msgspec.structs.replace(config, threads=threads)
        self._on_progress = on_progress or (lambda fraction: None)
        self._renderer = TemplateRenderer()
        self._ids = itertools.count(1)
        self._starting = threading.Lock()
        self._closed = threading.Event()
        self._life: Life | None = None
        self._backoff = Backoff()

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
        """The worker's process id; None while there is no living worker."""
        life = self._life
        return life.pid if life is not None and not life.over else None

    @property
    def keeps_prefixes(self) -> bool:
        """Whether ``Prompt.head`` is of use."""
        return self._config.prefix_folder is not None

    def peak_memory_bytes(self) -> int:
        """The most memory that the living worker has had in use, resident file pages included."""
        return peak_memory_bytes(self._alive()[0].pid)

    def close(self) -> None:
        """End the worker, also one that is loading; requests that still run fail."""
        self._closed.set()
        life = self._life
        if life is not None:
            life.end(EngineError("the engine was closed while the request ran"))
        with self._starting:  # nobody starts another one from here on
            if self._life is not None:
                self._life.end(EngineError("the engine was closed while the request ran"))
        self._renderer.close()

    def _alive(self) -> tuple[Life, ModelInfo]:
        with self._starting:
            life = self._life
            if life is None or life.over:
                life = self._next_life()
            return life, life.wait()

    def _next_life(self) -> Life:
        if not self._closed.is_set():
            open_model(self._config.model_paths)
            self._closed.wait(self._backoff.seconds)
        if self._closed.is_set():
            raise EngineError("the engine is closed; make a new one")
        life = self._life = Life(self._config, self._on_progress, self._backoff)
        try:
            life.wait()
        except BaseException as error:  # an interrupt, too, leaves no worker behind
            life.end(EngineError(f"the model was not loaded: {error}"))
            raise
        return life

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
        grammar: Grammar | None = None,
        shown: Sequence[str] = (),
        streams: bool = True,
        receiver: Receiver | None = None,
    ) -> Generation:
        """Generate after ``prompt``. Raises InvalidRequest, and what :meth:`start` raises.

        What happens later, the worker's death included, comes with the events. With a ``receiver`` they come
        to it, in the engine's listening thread, and not out of the generation. ``shown`` and ``streams`` are
        those of :class:`runtime.engine.messages.Request`.
        """
        check_stop(stop)
        if grammar is not None:
            check_grammar(grammar)
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
            grammar=grammar,
            shown=tuple(shown),
            streams=streams,
        )
        check_request(request, info)
        generation = Generation(request.id, lambda request_id: life.send(Cancel(request_id)), receiver)
        life.ask(request, generation.put)
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

    def family(self, template: str | None = None) -> Family:
        """How the model writes reasoning and tool calls. Raises TemplateError for one without a template."""
        chosen = model_template(self.info, template)
        knows_tools = self._renderer.dialect(chosen).tools != "refused"
        return family_of(chosen.source, chosen.control_texts, knows_tools=knows_tools)

    def tokenize(self, prompt: Prompt) -> tuple[int, ...]:
        """The tokens of a prompt, as a request with it would have them."""
        answer = self._answer(Tokenize(id=next(self._ids), prompt=prompt))
        assert isinstance(answer, Tokenized)
        return answer.tokens

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        """The bytes of tokens, control tokens as they are spelled. Raises InvalidRequest for an unknown
        one."""
        check_tokens("tokens", tokens, self.info.vocabulary_size)
        answer = self._answer(Detokenize(id=next(self._ids), tokens=tuple(tokens)))
        assert isinstance(answer, Detokenized)
        return answer.text

    def embed(
        self, prompt: Prompt | Sequence[int], receiver: Callable[[Embedded | LocalqError], None]
    ) -> Callable[[], None]:
        """Make a vector of a text, for ``receiver``, which is called in the engine's listening thread.

        Calling what is returned gives the text up: ``receiver`` then gets an EngineError. Raises what
        :meth:`start` raises, and InvalidRequest.
        """
        life, info = self._alive()
        if not isinstance(prompt, Prompt):
            prompt = tuple(prompt)
            check_tokens("input", prompt, info.vocabulary_size)
        question = Embed(id=next(self._ids), prompt=prompt)

        def put(message: Embedded | FinishedEvent | FailedEvent | LocalqError) -> None:
            if isinstance(message, FailedEvent):
                receiver(error_of(message))
            elif isinstance(message, FinishedEvent):
                receiver(EngineError("the text was given up"))
            else:
                receiver(message)

        life.ask(question, put)
        return lambda: life.send(Cancel(question.id))

    def _answer(self, question: Question) -> Tokenized | Detokenized:
        life, _ = self._alive()
        answers: queue.SimpleQueue[Tokenized | Detokenized | FailedEvent | LocalqError] = queue.SimpleQueue()
        life.ask(question, answers.put)
        answer = answers.get()
        if isinstance(answer, Tokenized | Detokenized):
            return answer
        raise error_of(answer) if isinstance(answer, FailedEvent) else answer
