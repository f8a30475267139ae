"""``/v1/completions``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from app.server.schemas.base import Answered, ModelName, Sampled, StreamOptions, Timings, Usage

Tokens = Annotated[list[Annotated[int, Meta(ge=0, le=2**31 - 1)]], Meta(max_length=1 << 20)]


class CompletionRequest(Sampled, kw_only=True, frozen=True):
    """``prompt``: a text, tokens, or a list of texts."""

    prompt: str | list[str | int | Tokens] = ""
    model: ModelName | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=16)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None


class CompletionLogprobs(Answered, kw_only=True, frozen=True):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Answered, kw_only=True, frozen=True):
    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: CompletionLogprobs | None = None


class Completion(Answered, kw_only=True, frozen=True, omit_defaults=True):
    """The answer, and each event of a stream of it."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    object: str
    system_fingerprint: str
    usage: Usage | None = None
    timings: Timings | None = None
