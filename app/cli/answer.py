"""One answer: asked for, shown while it comes, and what it took."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from app.cli.front import EngineLike, GenerationLike
from app.cli.interrupt import interrupts_cancel
from app.cli.output import Progress
from runtime.engine.messages import FinishedEvent, ProgressEvent, Prompt, SamplingParams, TokenEvent
from runtime.errors import EngineError


@dataclass(frozen=True)
class AnswerOptions:
    """How answers of one run are made."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    raw: bool = False
    """Give the prompt to the model as it is, without the chat template."""


def with_temperature(options: AnswerOptions, temperature: float | None) -> AnswerOptions:
    """The options at another temperature; None changes nothing."""
    if temperature is None:
        return options
    sampling = msgspec.structs.replace(options.sampling, temperature=temperature)
    return dataclasses.replace(options, sampling=sampling)


@dataclass(frozen=True)
class Answer:
    """The text as the model gave it: not yet safe to print."""

    text: str
    finished: FinishedEvent

    @property
    def cancelled(self) -> bool:
        return self.finished.reason == "cancelled"

    def used_tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return self.finished.usage.prompt_tokens + self.finished.usage.output_tokens


def begin(
    engine: EngineLike, system: str | None, turns: list[dict[str, Any]], options: AnswerOptions
) -> GenerationLike:
    """Ask for an answer to the last of ``turns``; a raw prompt is that turn's text alone."""
    if options.raw:
        return engine.submit(
            # Not parsed for control tokens: an attachment could bring them in.
            Prompt(turns[-1]["content"], add_special=True, parse_special=False),
            sampling=options.sampling,
            max_tokens=options.max_tokens,
            stop=options.stop,
        )
    # None leaves the system prompt to the template, which may bring its own; an empty one keeps that out.
    head = [] if system is None else [{"role": "system", "content": system}]
    return engine.chat(
        [*head, *turns], sampling=options.sampling, max_tokens=options.max_tokens, stop=options.stop
    )


def collect(
    start: Callable[[], GenerationLike],
    show: Callable[[str], None],
    progress: Progress | None = None,
    *,
    patience_seconds: float = 0.0,
    announce: Callable[[], None] = lambda: None,
) -> Answer:
    """Start a generation and follow it to its end. The first Ctrl-C stops it; what came so far is the answer.

    ``progress`` shows the prefill and is closed before the first text. ``patience_seconds`` and ``announce``
    are those of :func:`app.cli.interrupt.interrupts_cancel`.
    """
    pieces: list[str] = []
    with interrupts_cancel(patience_seconds, announce) as interrupts:
        generation = start()
        interrupts.attach(generation)
        for event in generation:
            if isinstance(event, TokenEvent):
                if progress is not None:
                    progress.close()
                    progress = None
                pieces.append(event.text)
                show(event.text)
            elif isinstance(event, ProgressEvent):
                if progress is not None and event.stage == "prefill":
                    progress.advance(event.done, event.total)
            elif isinstance(event, FinishedEvent):
                return Answer("".join(pieces), event)
    raise EngineError("the engine ended an answer without saying how; run localq doctor")


def statistics(answer: Answer) -> str:
    """One line: tokens in and out, speeds, times, and why the answer ended."""
    usage, timings = answer.finished.usage, answer.finished.timings
    read = usage.prompt_tokens - usage.cached_tokens
    prefill = (
        f" at {read / timings.prefill_seconds:.0f} tok/s" if timings.prefill_seconds > 0 and read else ""
    )
    cached = f" ({usage.cached_tokens} cached)" if usage.cached_tokens else ""
    speed = timings.decode_tokens_per_second(usage.output_tokens)
    decode = f" at {speed:.1f} tok/s" if speed else ""
    return (
        f"prompt {usage.prompt_tokens} tokens{cached}{prefill}"
        f" · answer {usage.output_tokens} tokens{decode}"
        f" · first token after {timings.first_token_seconds:.2f} s · {answer.finished.reason}"
    )


def document(model: str, answer: Answer) -> dict[str, Any]:
    """An answer as ``run --json`` prints it."""
    finished = answer.finished
    usage, timings = finished.usage, finished.timings
    return {
        "model": model,
        "text": answer.text,
        "finish_reason": finished.reason,
        "stop_text": finished.stop_text,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
        },
        "timings": {
            "queue_seconds": timings.queue_seconds,
            "prefill_seconds": timings.prefill_seconds,
            "first_token_seconds": timings.first_token_seconds,
            "decode_seconds": timings.decode_seconds,
            "decode_tokens_per_second": timings.decode_tokens_per_second(usage.output_tokens),
        },
    }
