"""``POST /v1/chat/completions``"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from app.server.answering import Answers, answers_to
from app.server.endpoint import DONE, Call, Endpoint, Reply, Stream, frame
from app.server.schemas import chat
from app.server.translate.chat import (
    FINGERPRINT,
    Told,
    completion_of,
    deltas_of,
    new_id,
    talk_of,
    timings_of,
    usage_of,
)


async def create(call: Call, request: chat.ChatRequest) -> Reply:
    """Go on with a conversation."""
    answers = await answers_to(call, request.model, lambda model: talk_of(request, model.offered.defaults))
    if request.stream:
        return Stream(stream(request, answers), lambda refusal: frame(refusal.body()), answers.close)
    async with answers:
        told = [Told() for _ in range(request.n or 1)]
        async for spoken in answers.spoken():
            told[spoken.index].take(spoken)
        return completion_of(
            new_id("chatcmpl"),
            int(time.time()),
            answers.model.name,
            told,
            logprobs=bool(request.logprobs),
            truncated=answers.prepared.truncated_messages,
        )


async def stream(request: chat.ChatRequest, answers: Answers) -> AsyncGenerator[bytes, None]:
    """The events of an answer."""
    async with answers:
        told = [Told() for _ in range(request.n or 1)]
        identifier, created = new_id("chatcmpl"), int(time.time())

        def chunk(choices: list[chat.ChunkChoice], **more: object) -> chat.ChatChunk:
            return chat.ChatChunk(
                id=identifier,
                created=created,
                model=answers.model.name,
                choices=choices,
                system_fingerprint=FINGERPRINT,
                object="chat.completion.chunk",
                **more,  # type: ignore[arg-type]
            )

        begun: set[int] = set()
        async for spoken in answers.spoken():
            index = spoken.index
            told[index].take(spoken)
            changes = list(deltas_of(spoken, told[index], logprobs=bool(request.logprobs)))
            if index not in begun:
                begun.add(index)
                first = chat.ChunkChoice(index=index, delta=chat.Delta(role="assistant", content=""))
                more = {"truncated_messages": answers.prepared.truncated_messages}
                yield frame(chunk([first], **more))
            if changes:
                yield b"".join(frame(chunk([change])) for change in changes)
        if request.stream_options is not None and request.stream_options.include_usage:
            yield frame(chunk([], usage=usage_of(told), timings=timings_of(told)))
        yield DONE


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/chat/completions",
        "Go on with a conversation.",
        create,
        request=chat.ChatRequest,
        answer=chat.ChatCompletion,
        event=chat.ChatChunk,
        waits=True,
    ),
)
