"""What all schemas share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

Probability: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
ModelName: TypeAlias = Annotated[
    str, Meta(max_length=300, description="A name of `/v1/models`; the first of them where it is left out.")
]
Schema: TypeAlias = dict[str, Any] | bool
"""A JSON schema."""


class Asked(msgspec.Struct, kw_only=True, frozen=True):
    """A request. Fields that nobody here knows are ignored, as OpenAI-compatible servers do."""


class Answered(msgspec.Struct, kw_only=True, frozen=True):
    """An answer."""


class Fault(Answered, kw_only=True, frozen=True):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(Answered, kw_only=True, frozen=True):
    """Every answer with a status of 400 or above."""

    error: Fault


class PromptTokensDetails(Answered, kw_only=True, frozen=True):
    """``cached_tokens`` were found in the cache: they cost nothing. ``disk_tokens`` of them were on disk."""

    cached_tokens: int = 0
    disk_tokens: int = 0


class CompletionTokensDetails(Answered, kw_only=True, frozen=True):
    """``reasoning_tokens`` of the answer's came before it."""

    reasoning_tokens: int = 0


class Usage(Answered, kw_only=True, frozen=True):
    """Counts of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = PromptTokensDetails()
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class Timings(Answered, kw_only=True, frozen=True):
    """Where the time of an answer went, in milliseconds and tokens a second."""

    queue_ms: float
    prompt_ms: float
    prompt_per_second: float
    predicted_ms: float
    predicted_per_second: float


class StreamOptions(Asked, kw_only=True, frozen=True):
    """``include_usage``: a last event has the counts of tokens."""

    include_usage: bool = False


class Sampled(Asked, kw_only=True, frozen=True):
    """How tokens are chosen: OpenAI's parameters, and those of llama.cpp."""

    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    min_p: Probability | None = None
    typical_p: Probability | None = None
    frequency_penalty: Annotated[float, Meta(ge=-100, le=100)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-100, le=100)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=1_000_000)] | None = None
    dry_multiplier: Annotated[float, Meta(ge=0, le=100)] | None = None
    dry_base: Annotated[float, Meta(ge=1, le=100)] | None = None
    dry_allowed_length: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    xtc_probability: Probability | None = None
    xtc_threshold: Probability | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    logit_bias: (
        Annotated[dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=4096)] | None
    ) = None
    stop: (
        Annotated[str, Meta(max_length=1024)]
        | Annotated[list[Annotated[str, Meta(min_length=1, max_length=1024)]], Meta(max_length=64)]
        | None
    ) = None
    ignore_eos: bool = False
    cache_prompt: bool = True
    grammar: Annotated[str, Meta(description="llama.cpp's GBNF.")] | None = None
    json_schema: Schema | None = None
    user: str | None = None


Finish: TypeAlias = Literal["stop", "length", "tool_calls"]
