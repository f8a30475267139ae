"""``/v1/rerank``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from app.server.schemas.base import Answered, Asked, ModelName


class RerankDocument(Asked, kw_only=True, frozen=True):
    text: str


class RerankRequest(Asked, kw_only=True, frozen=True):
    """How well each of ``documents`` answers ``query``, by a model that was trained for it."""

    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | RerankDocument], Meta(min_length=1, max_length=2048)]
    model: ModelName | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = False


class Ranked(Answered, kw_only=True, frozen=True, omit_defaults=True):
    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class RerankUsage(Answered, kw_only=True, frozen=True):
    prompt_tokens: int
    total_tokens: int


class Reranked(Answered, kw_only=True, frozen=True):
    """The best first. Scores are the model's own: only their order says something."""

    model: str
    results: list[Ranked]
    usage: RerankUsage
