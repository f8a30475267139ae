"""``POST /v1/rerank``"""

from __future__ import annotations

import struct

from app.server.endpoint import Call, Endpoint, Reply
from app.server.errors import Refusal
from app.server.routes.embeddings import vectors
from app.server.schemas.rerank import Ranked, Reranked, RerankRequest, RerankUsage
from runtime.engine.messages import ModelInfo, Prompt


async def create(call: Call, request: RerankRequest) -> Reply:
    """Order documents by how well they answer a query."""
    texts = [each if isinstance(each, str) else each.text for each in request.documents]
    async with call.service.pool.use(request.model) as model, model.gate.enter(call.client):
        if model.info.pooling != "rank":
            raise Refusal(
                400, f"{model.name} was not trained to compare texts; use a reranker", code="unsupported",
                param="model",
            )  # fmt: skip
        found = await vectors(call, model, [pair(model.info, request.query, text) for text in texts])
    scored = [
        Ranked(
            index=index,
            relevance_score=struct.unpack_from("<f", each.values)[0],
            document={"text": texts[index]} if request.return_documents else None,
        )
        for index, each in enumerate(found)
    ]
    scored.sort(key=lambda each: (-each.relevance_score, each.index))
    tokens = sum(each.prompt_tokens for each in found)
    return Reranked(
        model=model.name,
        results=scored[: request.top_n],
        usage=RerankUsage(prompt_tokens=tokens, total_tokens=tokens),
    )


def pair(info: ModelInfo, query: str, document: str) -> Prompt:
    """Both texts as the model was trained to see them: begin, query, end, separator, document, end.

    The texts between the marks are protected: a mark in them stays text.
    """
    marks = f"{info.eos_text}{info.separator_text}" or "\n"
    if not info.control_texts:
        return Prompt(f"{query}{marks}{document}", add_special=True, parse_special=False)
    holders = {"\ue000": query, "\ue001": document}
    text = f"{info.bos_text}\ue000{marks}\ue001{info.eos_text}"
    return Prompt(text, holders, add_special=False)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/rerank",
        "Order documents by a query.",
        create,
        request=RerankRequest,
        answer=Reranked,
        waits=True,
    ),
)
