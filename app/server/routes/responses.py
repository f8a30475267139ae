"""``/v1/responses``: create, read, delete."""

from __future__ import annotations

from typing import Any

from app.server.answering import answers_to, write, written
from app.server.endpoint import Call, Endpoint, Reply, Stream, named_frames
from app.server.errors import Refusal
from app.server.schemas.responses import (
    Deleted,
    InputItems,
    Response,
    ResponseEvent,
    ResponseRequest,
)
from app.server.translate.responses import Writer, items_of, output_as_input, refuse_unserved, talk_of


async def create(call: Call, request: ResponseRequest) -> Reply:
    """Make a response."""
    refuse_unserved(request)
    items = items_of(request)
    if request.previous_response_id is not None:
        before = call.service.responses.get(request.previous_response_id, call.client)
        items = [*before.items, *output_as_input(before.response.output), *items]
    answers = await answers_to(
        call, request.model, lambda model: talk_of(request, items, model.offered.defaults)
    )
    writer = Writer(request, answers.model.name, answers.prepared.truncated_messages)
    if request.stream:
        return Stream(
            written(answers, writer, lambda: keep(call, request, writer.response(), items)),
            lambda refusal: named_frames(writer.fail(refusal)),
            answers.close,
        )
    await write(answers, writer)
    return keep(call, request, writer.response(), items)


def keep(call: Call, request: ResponseRequest, response: Response, items: list[dict[str, Any]]) -> Response:
    """The response, kept unless the request says otherwise."""
    if request.store is not False:
        call.service.responses.keep(response, items, call.client)
    return response


async def show(call: Call) -> Reply:
    """A kept response."""
    return call.service.responses.get(call.path["response_id"], call.client).response


async def input_items(call: Call) -> Reply:
    """What a kept response was made of."""
    items = call.service.responses.get(call.path["response_id"], call.client).items
    return InputItems(data=[{"id": f"item_{at}", **item} for at, item in enumerate(items)])


async def delete(call: Call) -> Reply:
    """Forget a kept response."""
    identifier = call.path["response_id"]
    call.service.responses.delete(identifier, call.client)
    return Deleted(id=identifier)


async def cancel(call: Call) -> Reply:
    """There are no background responses to be cancelled."""
    call.service.responses.get(call.path["response_id"], call.client)
    raise Refusal(400, "only background responses can be cancelled", code="invalid_value")


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/responses",
        "Make a response.",
        create,
        request=ResponseRequest,
        answer=Response,
        event=ResponseEvent,
        waits=True,
    ),
    Endpoint("GET", "/v1/responses/{response_id}", "Show a kept response.", show, answer=Response),
    Endpoint("DELETE", "/v1/responses/{response_id}", "Forget a response.", delete, answer=Deleted),
    Endpoint(
        "GET", "/v1/responses/{response_id}/input_items", "Show what a response was made of.", input_items,
        answer=InputItems,
    ),
    Endpoint("POST", "/v1/responses/{response_id}/cancel", "Cancel a response.", cancel, answer=Response),
)  # fmt: skip
