"""``/v1/embeddings``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from app.server.schemas.base import Answered, Asked, ModelName
from app.server.schemas.completion import Tokens


class EmbeddingRequest(Asked, kw_only=True, frozen=True):
    """``input``: a text, tokens, or a list of either. ``dimensions``: only so many numbers, normalised
    again."""

    input: str | list[str | int | Tokens]
    model: ModelName | None = None
    dimensions: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


class Embedding(Answered, kw_only=True, frozen=True):
    """``embedding``: numbers, or the base64 of float32 in little endian."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(Answered, kw_only=True, frozen=True):
    prompt_tokens: int
    total_tokens: int


class Embeddings(Answered, kw_only=True, frozen=True):
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage
    object: Literal["list"] = "list"
