"""What the tokenizing job is asked, and what it answers; the front imports nothing else of it."""

from __future__ import annotations

import msgspec

from runtime.engine.observation import Passage

MODULE = "runtime.engine.tokenize"


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Read the passages with a model's vocabulary, and nothing else of the model."""

    model_path: str
    """The GGUF, or the first part of a split one; validated before."""
    passages: tuple[Passage, ...]
    file: str
    """Where the tokens go: int32, little endian, one domain behind the other. It is replaced."""


class TokenizeProgress(msgspec.Struct, frozen=True, tag=True):
    """``done`` of ``total`` passages are read."""

    done: int
    total: int


class Tokenized(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What was read."""

    domains: dict[str, int]
    """Tokens of each domain, in the order of the file."""
    first_token: int | None
    """The token that every sequence begins with, where the model wants one; it is not in the file."""
