"""``POST /v1/completions``"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from app.server.answering import Answers, begin
from app.server.conversation import Spoken
from app.server.endpoint import DONE, Call, Endpoint, Reply, Stream, frame
from app.server.schemas.completion import Completion, CompletionChoice, CompletionRequest
from app.server.translate.chat import FINGERPRINT, Told, new_id, sum_of, timings_of, usage_of
from app.server.translate.completion import (
    choice_of,
    likeliest,
    prepared_completion,
    prompts_of,
    wanted_completion,
)
from runtime.engine.messages import Prompt


async def create(call: Call, request: CompletionRequest) -> Reply:
    """Continue a text."""
    prompts = prompts_of(request)

    async def answers_to(prompt: Prompt | tuple[int, ...]) -> Answers:
        return await begin(
            call,
            request.model,
            lambda model: prepared_completion(
                prompt, wanted_completion(request, model.offered.defaults.temperature)
            ),
        )

    first = await answers_to(prompts[0])

    async def all_answers() -> AsyncIterator[Answers]:
        # One prompt after the other: a request of many does not take all slots.
        yield first
        for prompt in prompts[1:]:
            yield await answers_to(prompt)

    identifier, created = new_id("cmpl"), int(time.time())

    def completion(choices: list[CompletionChoice], told: Sequence[Sequence[Told]] = ()) -> Completion:
        return Completion(
            id=identifier,
            created=created,
            model=first.model.name,
            choices=choices,
            object="text_completion",
            system_fingerprint=FINGERPRINT,
            usage=sum_of([usage_of(each) for each in told]) if told else None,
            timings=timings_of(told[0]) if told else None,
        )

    count = request.n or 1
    tried = max(count, request.best_of or 1)
    echoed = [prompt.text if request.echo and isinstance(prompt, Prompt) else "" for prompt in prompts]
    with_logprobs = request.logprobs is not None

    async def stream() -> AsyncGenerator[bytes, None]:
        told: list[list[Told]] = []
        number = 0
        async for answers in all_answers():
            async with answers:
                mine = [Told() for _ in range(count)]
                offsets = [len(echoed[number])] * count
                begun: set[int] = set()
                async with aclosing(answers.spoken()) as events:  # type: ignore[type-var]
                    async for spoken in events:
                        index = spoken.index
                        mine[index].take(spoken)
                        prefix = "" if index in begun else echoed[number]
                        if not spoken.pieces and spoken.finished is None and not prefix:
                            continue
                        begun.add(index)
                        choice = choice_of(
                            [spoken],
                            number * count + index,
                            mine[index] if spoken.finished is not None else None,
                            logprobs=with_logprobs,
                            offset=offsets[index],
                            prefix=prefix,
                        )
                        offsets[index] += len(choice.text) - len(prefix)
                        yield frame(completion([choice]))
                told.append(mine)
                number += 1
        if request.stream_options is not None and request.stream_options.include_usage:
            yield frame(completion([], told))
        yield DONE

    if request.stream:
        return Stream(stream(), lambda refusal: frame(refusal.body()), first.close)
    told: list[list[Told]] = []
    choices = []
    number = 0
    async for answers in all_answers():
        async with answers:
            mine = [Told() for _ in range(tried)]
            events: list[list[Spoken]] = [[] for _ in range(tried)]
            async for spoken in answers.spoken():
                mine[spoken.index].take(spoken)
                events[spoken.index].append(spoken)
            choices += [
                choice_of(
                    events[index],
                    number * count + place,
                    mine[index],
                    logprobs=with_logprobs,
                    offset=len(echoed[number]),
                    prefix=echoed[number],
                )
                for place, index in enumerate(likeliest(events, count))
            ]
            told.append(mine)
            number += 1
    return completion(choices, told)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/completions",
        "Continue a text.",
        create,
        request=CompletionRequest,
        answer=Completion,
        event=Completion,
        waits=True,
    ),
)
