"""``POST /v1/embeddings``"""

from __future__ import annotations

import array
import asyncio
import base64
import math
import sys
from collections.abc import Callable, Sequence

from app.server.endpoint import Call, Endpoint, Reply
from app.server.errors import Refusal
from app.server.mailbox import Inbox
from app.server.pool import Model
from app.server.schemas.embedding import Embedding, EmbeddingRequest, Embeddings, EmbeddingUsage
from app.server.translate.completion import raw
from runtime.engine.messages import Embedded, Prompt
from runtime.errors import LocalqError

AHEAD = 16
"""Texts that the engine has at once."""


async def create(call: Call, request: EmbeddingRequest) -> Reply:
    """Make vectors of texts."""
    texts = inputs_of(request, call.service.limits.inputs)
    async with call.service.pool.use(request.model) as model, model.gate.enter(call.client):
        size = model.info.embedding_size
        if model.info.pooling == "rank":
            raise Refusal(
                400, f"{model.name} compares texts; use /v1/rerank", code="unsupported", param="model"
            )
        if request.dimensions is not None and request.dimensions > size:
            raise Refusal(
                400, f"dimensions is {request.dimensions}; the vectors of {model.name} have {size}",
                code="invalid_value", param="dimensions",
            )  # fmt: skip
        found = await vectors(call, model, texts)
    tokens = sum(each.prompt_tokens for each in found)
    data = [Embedding(index=index, embedding=shown(each.values, request)) for index, each in enumerate(found)]
    return Embeddings(
        model=model.name, data=data, usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
    )


def inputs_of(request: EmbeddingRequest, limit: int) -> list[Prompt | tuple[int, ...]]:
    """Each text of a request. Raises Refusal for none, too many, an empty one, and a mixture."""
    given = request.input
    if isinstance(given, str):
        given = [given]
    elif given and all(isinstance(each, int) for each in given):
        given = [[each for each in given if isinstance(each, int)]]
    if not 1 <= len(given) <= limit:
        raise Refusal(
            400, f"input has {len(given)} texts; give 1 to {limit}", code="invalid_value", param="input"
        )
    found: list[Prompt | tuple[int, ...]] = []
    for each in given:
        if isinstance(each, int):
            raise Refusal(400, "input mixes tokens and texts", code="invalid_value", param="input")
        if not each:
            raise Refusal(400, "input has an empty text", code="invalid_value", param="input")
        found.append(raw(each) if isinstance(each, str) else tuple(each))
    return found


async def vectors(call: Call, model: Model, texts: Sequence[Prompt | tuple[int, ...]]) -> list[Embedded]:
    """The vectors of texts, in their order. Being cancelled gives up those that are not made yet."""
    inbox: Inbox[Embedded] = Inbox(call.service.mailbox, len(texts))
    found: dict[int, Embedded] = {}
    running: dict[int, Callable[[], None]] = {}
    coming = iter(enumerate(texts))

    def begin() -> None:
        for index, text in coming:
            running[index] = model.engine.embed(text, inbox.receiver(index))
            return

    try:
        await asyncio.to_thread(model.engine.start)  # a worker that has died comes back off the loop
        for _ in range(AHEAD):
            begin()
        while running:
            for index, answer in await inbox.all():
                if isinstance(answer, LocalqError):
                    raise answer
                del running[index]
                found[index] = answer
                begin()
    finally:
        for cancel in running.values():
            cancel()
    return [found[index] for index in range(len(texts))]


def shown(values: bytes, request: EmbeddingRequest) -> list[float] | str:
    """A vector as it was asked for: of length 1, cut to ``dimensions`` before."""
    numbers = array.array("f", values)
    if sys.byteorder == "big":
        numbers.byteswap()
    if request.dimensions is not None:
        del numbers[request.dimensions :]
    length = math.sqrt(math.fsum(number * number for number in numbers)) or 1.0
    unit = array.array("f", (number / length for number in numbers))
    if request.encoding_format == "base64":
        if sys.byteorder == "big":
            unit.byteswap()
        return base64.b64encode(unit.tobytes()).decode("ascii")
    return unit.tolist()


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/embeddings",
        "Make vectors of texts, of length 1.",
        create,
        request=EmbeddingRequest,
        answer=Embeddings,
        waits=True,
    ),
)
