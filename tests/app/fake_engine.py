"""An engine without a model: what it answers follows from the last message."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from runtime.engine.config import EngineConfig
from runtime.engine.messages import (
    Event,
    FinishedEvent,
    ModelInfo,
    ProgressEvent,
    Prompt,
    SamplingParams,
    Timings,
    TokenEvent,
    Usage,
)
from runtime.errors import ModelLoadFailed, PromptTooLong, TemplateError, WorkerDied

HOSTILE = [
    "ok\x1b]0;own",
    "ed\x07\x1b[2",
    "J\x1b]52;c;cm0=\x1b\\ \u202egnp.exe \U000e0041\x9b6n",
    "\rgone\x00",
]
"""A title, a cleared screen, a written clipboard, bidi, a tag, an 8-bit query, an overwritten line, a NUL."""


@dataclass
class Request:
    """One call of ``submit`` or ``chat``."""

    text: str
    messages: tuple[Mapping[str, Any], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


class FakeGeneration:
    """Events of one answer. ``cancel`` ends an endless one."""

    def __init__(self, text: str, request: Request) -> None:
        self.cancelled = threading.Event()
        self._text = text
        self._request = request

    def cancel(self) -> None:
        self.cancelled.set()

    def __iter__(self) -> Iterator[Event]:
        yield ProgressEvent(id=1, stage="prefill", done=1, total=2)
        count = 0
        for piece in self._pieces():
            count += 1
            yield TokenEvent(id=1, text=piece, tokens=(count,))
            if self.cancelled.is_set() and not self._text.startswith("stubborn"):
                yield self._finished("cancelled", count)
                return
        if self.cancelled.is_set():
            yield self._finished("cancelled", count)
            return
        limit = self._request.options.get("max_tokens")
        yield self._finished("length" if limit is not None and limit <= count else "stop", count)

    def _pieces(self) -> Iterator[str]:
        word, _, rest = self._text.partition(" ")
        match word:
            case "echo":
                yield from (rest[start : start + 3] for start in range(0, len(rest), 3))
            case "forever":
                while not self.cancelled.is_set():
                    time.sleep(0.01)
                    yield "x "
            case "stubborn":
                while True:
                    time.sleep(0.01)
                    yield "still "
            case "die":
                yield "partial"
                raise WorkerDied(
                    "the worker process was ended by SIGSEGV", returncode=-11, log="ggml: \x1b[31mabort\n"
                )
            case "hostile":
                yield from HOSTILE
            case "roles":
                yield " ".join(str(message["role"]) for message in self._request.messages)
            case "nothing":
                return
            case _:
                yield f"You said: {self._text}"

    def _finished(self, reason: Any, count: int) -> FinishedEvent:
        return FinishedEvent(
            id=1,
            reason=reason,
            usage=Usage(prompt_tokens=10, cached_tokens=2, output_tokens=count),
            timings=Timings(
                queue_seconds=0.0, prefill_seconds=0.5, first_token_seconds=0.5, decode_seconds=2.0
            ),
        )


class FakeEngine:
    """Stands for ``runtime.engine.client.Engine``."""

    def __init__(
        self,
        config: EngineConfig,
        on_progress: Callable[[float], None] | None = None,
        *,
        fails_to_load: bool = False,
    ) -> None:
        self.config = config
        self.requests: list[Request] = []
        self.rendered: list[tuple[Mapping[str, Any], ...]] = []
        """The conversations that were rendered."""
        self.closed = False
        self._on_progress = on_progress
        self._fails_to_load = fails_to_load

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True

    def start(self) -> ModelInfo:
        if self._fails_to_load:
            raise ModelLoadFailed("llama.cpp could not load the model", log="unknown tensor 'a\x1b[31m'\n")
        if self._on_progress is not None:
            self._on_progress(0.5)
        return ModelInfo(
            description="fake",
            architecture="llama",
            parameters=1,
            size_bytes=1,
            trained_context_tokens=512,
            context_tokens=self.config.context_tokens,
            slots=1,
            threads=self.config.threads or 2,
            vocabulary_size=300,
            chat_template="{{ messages }}",
            bos_text="<s>",
            eos_text="</s>",
            control_texts=("<s>", "</s>"),
            load_seconds=0.1,
        )

    def submit(
        self,
        prompt: Prompt | Sequence[int],
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        ignore_eos: bool = False,
        cache_prompt: bool = True,
    ) -> FakeGeneration:
        text = prompt.text if isinstance(prompt, Prompt) else "echo " + "abc" * (max_tokens or 1)
        return self._begin(
            Request(
                text,
                options={
                    "prompt": prompt,
                    "sampling": sampling,
                    "max_tokens": max_tokens,
                    "stop": stop,
                    "ignore_eos": ignore_eos,
                    "cache_prompt": cache_prompt,
                },
            )
        )

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, variables: Mapping[str, Any] | None = None
    ) -> Prompt:
        self.rendered.append(tuple(map(dict, messages)))
        return Prompt(str(messages[-1]["content"]))

    @property
    def pid(self) -> int | None:
        return None

    def close(self) -> None:
        self.closed = True

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> FakeGeneration:
        return self._begin(Request(str(messages[-1]["content"]), tuple(map(dict, messages)), options))

    def tokenize(self, prompt: Prompt) -> tuple[int, ...]:
        return tuple(len(word) for word in prompt.text.split())

    def peak_memory_bytes(self) -> int:
        return 123 << 20

    def _begin(self, request: Request) -> FakeGeneration:
        self.requests.append(request)
        if request.text.startswith("overflow"):
            raise PromptTooLong(
                "the prompt has 5000 tokens, the context holds 4096",
                prompt_tokens=5000,
                context_tokens=4096,
            )
        if request.text.startswith("untemplated"):
            raise TemplateError("the template refuses \x1b[2J this")
        return FakeGeneration(request.text, request)
