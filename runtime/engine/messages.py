"""What the front and the worker say to each other, and the events that a caller sees.

Messages are msgspec structs, tagged by their type, encoded as msgpack, each behind its length (u32, little
endian) on a socket pair. Times are seconds, sizes bytes, counts tokens.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from runtime.engine.config import EngineConfig

EndReason: TypeAlias = Literal["stop", "length", "cancelled"]
Pooling: TypeAlias = Literal["mean", "cls", "last", "rank"]
"""How the vectors of a text's tokens become one; ``rank``: scores of a pair of texts."""


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the next token is chosen. The defaults switch every filter off but those that llama.cpp has on.

    ``temperature`` 0 is greedy. ``seed`` None draws one from the system.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_last_n: int = -1
    dry_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    logit_bias: dict[int, float] = {}
    seed: int | None = None


class Prompt(msgspec.Struct, frozen=True):
    """A rendered prompt.

    ``protected`` maps placeholders in ``text`` to the user's own text that would otherwise read as a control
    token; the worker puts it back as plain text, after control tokens have been found (see ``templates``).
    """

    text: str
    protected: dict[str, str] = {}
    add_special: bool = False
    """Add the vocabulary's BOS (a rendered chat template brings its own)."""
    parse_special: bool = True
    """Read control tokens in ``text``; False for text that nobody vouches for."""
    head: int = 0
    """Characters of ``text`` before the conversation itself: worth keeping for others that begin so."""


class Grammar(msgspec.Struct, frozen=True):
    """What an answer must look like: JSON of a schema, or a text of a grammar or regular expression.

    ``lark`` is llguidance's dialect, ``gbnf`` llama.cpp's. See :mod:`runtime.engine.grammar` for the limits.
    """

    kind: Literal["json_schema", "lark", "gbnf", "regex"]
    source: str


class Request(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Front -> worker: generate. ``prompt`` may already be tokens."""

    id: int
    prompt: Prompt | tuple[int, ...]
    sampling: SamplingParams = SamplingParams()
    max_tokens: int | None = None
    """None = until the end of the answer or of the context."""
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    """None = none; n = the chosen token's log probability and those of the n likeliest."""
    ignore_eos: bool = False
    cache_prompt: bool = True
    grammar: Grammar | None = None
    shown: tuple[str, ...] = ()
    """Control tokens that are spelled out in the text of the answer instead of being left out of it."""
    streams: bool = True
    """False: the whole answer comes in one event, and nothing of its progress."""


class Load(msgspec.Struct, frozen=True, tag=True):
    """Front -> worker, first of all: the model to load; answered by :class:`ModelInfo` or a failure."""

    config: EngineConfig


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Front -> worker: stop this request; it ends with a FinishedEvent whose reason is ``cancelled``."""

    id: int


class Tokenize(msgspec.Struct, frozen=True, tag=True):
    """Front -> worker: count or list the tokens of a prompt; answered by :class:`Tokenized`."""

    id: int
    prompt: Prompt


class Detokenize(msgspec.Struct, frozen=True, tag=True):
    """Front -> worker: the text of tokens; answered by :class:`Detokenized`."""

    id: int
    tokens: tuple[int, ...]


class Embed(msgspec.Struct, frozen=True, tag=True):
    """Front -> worker: the vector of a text, or its scores by a reranker; answered by :class:`Embedded`."""

    id: int
    prompt: Prompt | tuple[int, ...]


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """Front -> worker: end the process."""


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token, its text's bytes, and its natural-log probability before sampling filters."""

    token: int
    text: bytes
    logprob: float


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Where one request's time went."""

    queue_seconds: float = 0.0
    prefill_seconds: float = 0.0
    first_token_seconds: float = 0.0
    """From arrival in the worker to the first token."""
    decode_seconds: float = 0.0

    def decode_tokens_per_second(self, output_tokens: int) -> float:
        """Speed of all tokens after the first, which prefill already gave."""
        return (
            (output_tokens - 1) / self.decode_seconds
            if self.decode_seconds > 0 and output_tokens > 1
            else 0.0
        )


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts; ``cached_tokens`` of the prompt's were found in the KV cache."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    disk_tokens: int = 0
    """Of the cached ones, those whose state came from the disk."""


class ProgressEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A request waits, or ``done`` of ``total`` prompt tokens are in the cache."""

    id: int
    stage: Literal["queued", "prefill"]
    done: int
    total: int


class TokenEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """New text. It may lag the tokens: a code point or a stop string is held back until it is whole."""

    id: int
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()
    """For each token: itself first, then the likeliest."""


class FinishedEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer is over."""

    id: int
    reason: EndReason
    stop_text: str | None = None
    """The stop string that was found, if one was."""
    usage: Usage
    timings: Timings


class FailedEvent(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The request failed. ``code`` names a class in ``runtime.errors``, ``details`` its attributes."""

    id: int
    code: str
    message: str
    details: dict[str, int | str | None] = {}


class Tokenized(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Worker -> front: the tokens of a prompt."""

    id: int
    tokens: tuple[int, ...]


class Detokenized(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Worker -> front: the bytes of tokens; control tokens as the vocabulary spells them."""

    id: int
    text: bytes


class Embedded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Worker -> front: ``values`` are float32, little endian: not normalised."""

    id: int
    values: bytes
    prompt_tokens: int


class LoadProgress(msgspec.Struct, frozen=True, tag=True):
    """Worker -> front: the share of the model that is loaded, 0 to 1."""

    fraction: float


class Notice(msgspec.Struct, frozen=True, tag=True):
    """Worker -> front: something for the log, that no request has failed by."""

    text: str


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Worker -> front, once: the model is loaded."""

    description: str
    architecture: str
    parameters: int
    size_bytes: int
    trained_context_tokens: int
    context_tokens: int
    slots: int
    threads: int
    vocabulary_size: int
    chat_template: str | None
    bos_text: str
    eos_text: str
    control_texts: tuple[str, ...]
    """Texts of the tokens that ``parse_special`` would find: a user's text must not bring them in."""
    load_seconds: float
    generates: bool = True
    """False for an encoder, which only gives vectors."""
    embedding_size: int = 0
    """Numbers in a vector of :class:`Embed`."""
    embedding_tokens: int = 0
    """The longest text that :class:`Embed` takes."""
    pooling: Pooling = "mean"
    separator_text: str = ""
    """What stands between the two texts that a reranker compares."""
    kernels: str = ""
    """The instruction set of localq's kernels that multiply; "" where llama.cpp's own do."""
    kernels_reason: str = ""
    """Why they do."""


class LoadFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Worker -> front: llama.cpp gave up; the worker ends."""

    message: str


Event: TypeAlias = ProgressEvent | TokenEvent | FinishedEvent | FailedEvent
Question: TypeAlias = Request | Tokenize | Detokenize | Embed
"""What has an answer of its own."""
ToWorker: TypeAlias = Load | Question | Cancel | Shutdown
FromWorker: TypeAlias = (
    ProgressEvent
    | TokenEvent
    | FinishedEvent
    | FailedEvent
    | Tokenized
    | Detokenized
    | Embedded
    | LoadProgress
    | Notice
    | ModelInfo
    | LoadFailed
)
