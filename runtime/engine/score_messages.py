"""What the scoring job is asked, and what it answers; the front imports nothing else of it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from runtime.engine.config import EngineConfig

DivergenceKind: TypeAlias = Literal["full", "top-256"]
"""Over the whole vocabulary, or over the original's 256 likeliest tokens and one bucket for all others."""

KEPT = 256
"""Tokens whose probabilities a recorded original keeps at each position."""


class ScoreText(msgspec.Struct, frozen=True):
    """A text to score, in chunks that never mix with another text's."""

    name: str
    text: str


class ScoreRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over the texts with one or two models.

    ``config`` is the judged model's: ``context_tokens`` is the length of a chunk, ``slots`` is 1. Beside it
    is at most one of three: ``original`` is loaded too and compared with; ``record`` is a path that the
    likeliest tokens of each position are written to; ``recorded`` is such a file, compared with.
    """

    config: EngineConfig
    texts: tuple[ScoreText, ...]
    chunks: int | None = None
    """Chunks in all, spread evenly over the texts, from the beginning of each; None takes all."""
    slice_tokens: int = 64
    """Positions whose logits are in memory at a time."""
    original: EngineConfig | None = None
    record: str | None = None
    recorded: str | None = None


class Scored(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Scores of ``positions`` positions of each chunk: text after text, chunk after chunk.

    Arrays are bytes in the machine's order, float64 but for ``agrees`` (uint8). Without an original,
    ``original_log_probability``, ``divergence`` and ``agrees`` are empty.
    """

    text_tokens: tuple[int, ...]
    """Length of each text."""
    text_chunks: tuple[int, ...]
    """Chunks that were scored of each text."""
    positions: int
    log_probability: bytes
    """Natural logarithm of the probability that the judged model gives the text's next token."""
    original_log_probability: bytes = b""
    divergence: bytes = b""
    """Kullback-Leibler divergence of the judged model's distribution from the original's, in nats."""
    agrees: bytes = b""
    """1 where both models hold the same token for the likeliest."""
    kind: DivergenceKind = "full"


class ScoreProgress(msgspec.Struct, frozen=True, tag=True):
    """``done`` of ``chunks`` chunks are scored."""

    done: int
    chunks: int
