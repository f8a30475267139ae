"""``POST /v1/messages``, ``POST /v1/messages/count_tokens``"""

from __future__ import annotations

import asyncio

from app.server.answering import begin, write, written
from app.server.conversation import Prepared, prepare, rendered
from app.server.endpoint import Call, Endpoint, Reply, Stream, named_frames
from app.server.pool import Model
from app.server.schemas.messages import (
    CountRequest,
    MessageAnswer,
    MessageEvent,
    MessagesRequest,
    TokenCount,
)
from app.server.translate.messages import Writer, fault_of, talk_of
from runtime.engine.messages import Prompt


async def create(call: Call, request: MessagesRequest) -> Reply:
    """Go on with a conversation."""
    counted = 0

    def prepared_for(model: Model) -> Prepared:
        nonlocal counted
        prepared = prepare(model.engine, talk_of(request, model.offered.defaults))
        if request.stream and isinstance(prepared.prompt, Prompt):
            counted = len(model.engine.tokenize(prepared.prompt))  # the first event has it
        return prepared

    answers = await begin(call, request.model, prepared_for)
    writer = Writer(answers.model.name, counted)
    if request.stream:
        return Stream(
            written(answers, writer),
            lambda refusal: named_frames([fault_of(refusal)]),
            answers.close,
        )
    await write(answers, writer)
    return writer.answer()


async def count(call: Call, request: CountRequest) -> Reply:
    """Count the tokens of a conversation."""

    def counted(model: Model) -> int:
        talk = talk_of(request, model.offered.defaults)
        prompt, _ = rendered(model.engine, model.engine.family(), talk)
        return len(model.engine.tokenize(prompt))

    async with call.service.pool.use(request.model) as model:
        return TokenCount(input_tokens=await asyncio.to_thread(counted, model))


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/messages",
        "Go on with a conversation, in Anthropic's form.",
        create,
        request=MessagesRequest,
        answer=MessageAnswer,
        event=MessageEvent,
        waits=True,
        fault=fault_of,
    ),
    Endpoint(
        "POST",
        "/v1/messages/count_tokens",
        "Count the tokens of a conversation.",
        count,
        request=CountRequest,
        answer=TokenCount,
        fault=fault_of,
    ),
)
