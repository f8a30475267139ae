"""From a request for answers, whatever wire it came over, to the pieces of the answers as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from app.server.mailbox import Inbox, Mailbox
from runtime.engine.answers.choice import format_grammar, tool_grammar
from runtime.engine.answers.families import Family, opens_reasoning
from runtime.engine.answers.instructions import with_instructions
from runtime.engine.answers.parser import Parser
from runtime.engine.answers.pieces import CallStart, Content, Piece, Reasoning
from runtime.engine.messages import (
    Event,
    FinishedEvent,
    Grammar,
    ModelInfo,
    ProgressEvent,
    Prompt,
    SamplingParams,
    TokenEvent,
    TokenLogprob,
)
from runtime.engine.slot import common_prefix
from runtime.errors import EngineError, InvalidRequest, LocalqError, PromptTooLong

LONG_HEAD = 1000
"""Characters: shorter system prompts are not worth a file."""
Choice = Literal["none", "auto", "required"]


class Generating(Protocol):
    """An answer under way."""

    def cancel(self) -> None: ...


class EngineLike(Protocol):
    """The part of ``runtime.engine.client.Engine`` that the endpoint uses."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def keeps_prefixes(self) -> bool: ...

    def submit(self, prompt: Prompt | Sequence[int], **options: Any) -> Generating: ...

    def render(self, messages: Sequence[Any], **options: Any) -> Prompt: ...

    def family(self, template: str | None = None) -> Family: ...

    def tokenize(self, prompt: Prompt) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Wanted:
    """What all answers of one request are made with."""

    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    ignore_eos: bool = False
    cache_prompt: bool = True
    grammar: Grammar | None = None
    count: int = 1
    streams: bool = True


@dataclass(frozen=True)
class Talk:
    """A conversation to be gone on with. ``tools``: those that may be called, as OpenAI defines them."""

    messages: list[dict[str, Any]]
    wanted: Wanted
    tools: list[dict[str, Any]] = field(default_factory=list)
    choice: Choice = "auto"
    callable: tuple[str, ...] | None = None
    """Names of the tools that may be called; None = all."""
    parallel: bool = True
    variables: dict[str, Any] = field(default_factory=dict)
    truncates: bool = False


@dataclass(frozen=True)
class Prepared:
    """A prompt, and how the answers to it are read."""

    prompt: Prompt | tuple[int, ...]
    wanted: Wanted
    parser: type[Parser] | None = None
    tools: dict[str, Any] = field(default_factory=dict)
    thinking: bool = False
    shown: tuple[str, ...] = ()
    truncated_messages: int = 0

    def make_parser(self) -> Parser | None:
        """A parser for one answer; None where the text is taken as it is."""
        return None if self.parser is None else self.parser(self.tools, thinking=self.thinking)


@dataclass(slots=True)
class Spoken:
    """What one event of one answer brought. ``finished`` is set in the last one."""

    index: int
    pieces: list[Piece]
    logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()
    tokens: int = 0
    finished: FinishedEvent | None = None

    @property
    def is_reasoning(self) -> bool:
        """All of it is reasoning."""
        return bool(self.pieces) and all(isinstance(piece, Reasoning) for piece in self.pieces)


def prepare(engine: EngineLike, talk: Talk) -> Prepared:
    """Render a conversation. Blocks for some milliseconds; to be run in a thread.

    Raises InvalidRequest, TemplateError, PromptTooLong.
    """
    family = engine.family()
    offered = [] if talk.choice == "none" else talk.tools
    schemas = {
        tool["function"]["name"]: tool["function"].get("parameters") or {}
        for tool in offered
        if talk.callable is None or tool["function"]["name"] in talk.callable
    }
    prompt, dropped = rendered(engine, family, talk)
    if engine.keeps_prefixes:
        prompt = with_head(engine, family, talk, prompt)
    thinking = opens_reasoning(prompt.text, family)
    grammar = talk.wanted.grammar
    controls = frozenset(engine.info.control_texts)
    if schemas and talk.choice == "required":
        if grammar is not None:
            raise InvalidRequest(
                "a required tool call and a response format cannot both hold; leave one out",
                field="response_format",
            )
        grammar = tool_grammar(family, schemas, controls, parallel=talk.parallel, thinking=thinking)
    elif grammar is not None:
        grammar = format_grammar(family, grammar, controls, thinking=thinking)
    return Prepared(
        prompt,
        Wanted(**{**vars(talk.wanted), "grammar": grammar}),
        family.parser,
        schemas,
        thinking,
        tuple(text for text in family.parser.shown if text in controls),
        dropped,
    )


def with_head(engine: EngineLike, family: Family, talk: Talk, prompt: Prompt) -> Prompt:
    """The prompt, with the length of what others of the same system prompt and tools begin with.

    Two conversations that have nothing else in common are rendered to see it.
    """
    system = [message for message in talk.messages if message["role"] in ("system", "developer")]
    if len(prompt.text) < LONG_HEAD or not (system or talk.tools):
        return prompt
    others = [render(engine, family, talk, [*system, {"role": "user", "content": said}]) for said in "ab"]
    head = min(common_prefix(prompt.text, other.text) for other in others)
    return msgspec.structs.replace(prompt, head=head)


def render(engine: EngineLike, family: Family, talk: Talk, messages: list[dict[str, Any]]) -> Prompt:
    """Some messages, with a conversation's tools."""
    tools: list[dict[str, Any]] | None = talk.tools if talk.choice != "none" else None
    if not family.taught:
        messages, tools = with_instructions(messages, tools or []), None
    return engine.render(messages, tools=tools or None, variables=talk.variables or None)


def rendered(engine: EngineLike, family: Family, talk: Talk) -> tuple[Prompt, int]:
    """The prompt, and how many of the oldest turns it leaves out."""
    if not talk.truncates:
        return render(engine, family, talk, talk.messages), 0
    head = [message for message in talk.messages if message["role"] in ("system", "developer")]
    turns = [message for message in talk.messages if message["role"] not in ("system", "developer")]
    starts = [at for at, message in enumerate(turns) if message["role"] == "user"] or [0]
    room = engine.info.context_tokens - 1 - min(talk.wanted.max_tokens or 0, engine.info.context_tokens // 4)

    def fits(start: int) -> Prompt | None:
        prompt = render(engine, family, talk, [*head, *turns[start:]])
        return prompt if len(engine.tokenize(prompt)) <= room else None

    if starts[0] != 0:
        starts.insert(0, 0)
    low, high, best = 0, len(starts) - 1, None
    while low <= high:  # the longest end of the conversation that fits
        middle = (low + high) // 2
        prompt = fits(starts[middle])
        if prompt is None:
            low = middle + 1
        else:
            best, high = (prompt, starts[middle]), middle - 1
    if best is None:
        tokens = len(engine.tokenize(render(engine, family, talk, [*head, *turns[starts[-1] :]])))
        raise PromptTooLong(
            f"the newest turn alone has {tokens} tokens",
            prompt_tokens=tokens,
            context_tokens=engine.info.context_tokens,
        )
    return best


async def speak(
    engine: EngineLike, prepared: Prepared, mailbox: Mailbox, buffered_events: int
) -> AsyncIterator[Spoken]:
    """The answers' pieces, as they come; the first thing that comes says that the prompt was accepted.

    Leaving the iteration ends the answers. Raises the typed error of an answer that failed.
    """
    wanted = prepared.wanted
    inbox: Inbox[Event] = Inbox(mailbox, buffered_events)
    parsers = [prepared.make_parser() for _ in range(wanted.count)]
    running: dict[int, Generating] = {}

    def begin(index: int) -> None:
        sampling = wanted.sampling
        if index and sampling.seed is not None:
            sampling = _reseeded(sampling, index)
        running[index] = engine.submit(
            prepared.prompt,
            sampling=sampling,
            max_tokens=wanted.max_tokens,
            stop=wanted.stop,
            logprobs=wanted.logprobs,
            ignore_eos=wanted.ignore_eos,
            cache_prompt=wanted.cache_prompt,
            grammar=wanted.grammar,
            shown=prepared.shown,
            streams=wanted.streams,
            receiver=inbox.receiver(index),
        )

    try:
        for index in range(wanted.count):
            begin(index)
        while running:
            for index, event in await inbox.all():
                match event:
                    case LocalqError():
                        raise event
                    case TokenEvent():
                        parser = parsers[index]
                        pieces: list[Piece] = (
                            [Content(event.text)] if parser is None else parser.push(event.text)
                        )
                        yield Spoken(index, pieces, event.logprobs, len(event.tokens))
                    case FinishedEvent():
                        del running[index]
                        parser = parsers[index]
                        rest = [] if parser is None else parser.finish()
                        if event.reason == "cancelled":
                            raise EngineError("the answer was cancelled")
                        yield Spoken(index, rest, finished=event)
                    case ProgressEvent():
                        yield Spoken(index, [])
    finally:
        for generation in running.values():
            generation.cancel()


def _reseeded(sampling: SamplingParams, index: int) -> SamplingParams:
    """Answers of one request differ, also where a seed makes them repeatable."""
    seed = ((sampling.seed or 0) + index) % (2**32 - 1)
    return msgspec.structs.replace(sampling, seed=seed)


async def prepared_in_thread(engine: EngineLike, talk: Talk) -> Prepared:
    """:func:`prepare`, off the loop."""
    return await asyncio.to_thread(prepare, engine, talk)


def calls_of(pieces: Sequence[Piece]) -> bool:
    """Whether a tool is called in them."""
    return any(isinstance(piece, CallStart) for piece in pieces)
