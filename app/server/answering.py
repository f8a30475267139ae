"""A request for answers on its way: admitted, its model loaded, its prompt rendered, its answers running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Protocol, Self

from app.server.conversation import Prepared, Spoken, Talk, prepare, speak
from app.server.endpoint import Call, named_frames
from app.server.pool import Model


class Answers:
    """Answers to one request. Leaving its block ends them and frees what they hold."""

    def __init__(self, call: Call, model: Model, prepared: Prepared, held: AsyncExitStack) -> None:
        self.model = model
        self.prepared = prepared
        self._call = call
        self._held = held

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the answers, and free what they hold; once or more often."""
        await self._held.aclose()

    async def spoken(self) -> AsyncIterator[Spoken]:
        """The pieces of all answers as they come."""
        service = self._call.service
        events = speak(self.model.engine, self.prepared, service.mailbox, service.limits.buffered_events)
        self._held.push_async_callback(events.aclose)  # type: ignore[attr-defined]
        async for spoken in events:
            if spoken.finished is not None:
                service.metrics.finished(self.model.name, spoken.finished)
            yield spoken


async def answers_to(call: Call, name: str | None, talk_for: Callable[[Model], Talk]) -> Answers:
    """Admit a request and prepare its answers. Raises Refusal and typed errors; nothing is held then."""

    def prepared_for(model: Model) -> Prepared:
        return prepare(model.engine, talk_for(model))

    return await begin(call, name, prepared_for)


async def begin(call: Call, name: str | None, prepared_for: Callable[[Model], Prepared]) -> Answers:
    """The same for what is prepared in another way; ``prepared_for`` runs in a thread."""
    service = call.service
    held = AsyncExitStack()
    try:
        model = await held.enter_async_context(service.pool.use(name))
        await held.enter_async_context(model.gate.enter(call.client))
        prepared = await asyncio.to_thread(prepared_for, model)
        return Answers(call, model, prepared, held)
    except BaseException:
        await held.aclose()
        raise


class Writer(Protocol):
    """Makes a wire's events of the pieces of one answer."""

    def begin(self) -> Iterable[Any]: ...

    def take(self, spoken: Spoken) -> Iterable[Any]: ...

    def end(self) -> Iterable[Any]: ...


async def write(answers: Answers, writer: Writer) -> None:
    """Give an answer to a writer, for one that is sent as a whole."""
    async with answers:
        async for spoken in answers.spoken():
            for _ in writer.take(spoken):
                pass


async def written(
    answers: Answers, writer: Writer, ended: Callable[[], object] = lambda: None
) -> AsyncGenerator[bytes, None]:
    """The events of an answer as they come; ``ended`` is called before the last of them is sent."""
    async with answers:
        begun = False
        async for spoken in answers.spoken():
            if not begun:
                begun = True
                yield named_frames(writer.begin())
            if events := named_frames(writer.take(spoken)):
                yield events
        last = named_frames(writer.end())
        ended()
        yield last
