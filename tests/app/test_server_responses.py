"""``/v1/responses`` with the official client."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.app.server_process import ServerProcess

pytestmark = pytest.mark.model

QUESTION = "What is the capital of France?"
CALC: Any = {
    "type": "function",
    "name": "add",
    "description": "Add two numbers.",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "strict": True,
}


def test_a_response_has_text_and_usage(client: OpenAI) -> None:
    response = client.responses.create(
        model="demo", input=QUESTION, instructions="", temperature=0, max_output_tokens=16
    )
    assert "Paris" in response.output_text
    assert response.status in ("completed", "incomplete")
    assert response.usage is not None and response.usage.output_tokens <= 16
    assert response.output[0].type == "message"


def test_an_answer_that_was_cut_says_so(client: OpenAI) -> None:
    response = client.responses.create(model="demo", input=QUESTION, max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_stored_response_is_gone_on_with_read_and_deleted(client: OpenAI) -> None:
    first = client.responses.create(
        model="demo", input="Remember the word zebra.", temperature=0, max_output_tokens=16
    )
    second = client.responses.create(
        model="demo", input="Which word?", previous_response_id=first.id, max_output_tokens=16
    )
    assert first.usage is not None and second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    assert second.usage.input_tokens_details.cached_tokens > 0
    assert client.responses.retrieve(first.id).output_text == first.output_text
    items = client.responses.input_items.list(second.id).data
    assert len(items) == 3
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_response_that_is_not_to_be_stored_is_not(client: OpenAI) -> None:
    response = client.responses.create(model="demo", input=QUESTION, store=False, max_output_tokens=2)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_stream_has_its_events_in_order_and_adds_up(client: OpenAI) -> None:
    events: list[Any] = list(
        client.responses.create(
            model="demo", input=QUESTION, temperature=0, max_output_tokens=16, stream=True
        )
    )
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:-1] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text != ""


def test_the_stream_helper_accumulates(client: OpenAI) -> None:
    with client.responses.stream(model="demo", input=QUESTION, instructions="", temperature=0) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text


def test_parse_gives_the_model_that_was_asked_for(client: OpenAI) -> None:
    class City(BaseModel):
        name: str
        large: bool

    response = client.responses.parse(
        model="demo", input="Rome is a large city.", text_format=City, temperature=0, max_output_tokens=60
    )
    assert isinstance(response.output_parsed, City)


def test_a_function_is_called_and_its_output_read(client: OpenAI) -> None:
    first = client.responses.create(
        model="demo",
        input="What is 2 + 3?",
        tools=[CALC],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
        max_output_tokens=80,
    )
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert call.name == "add" and set(json.loads(call.arguments)) == {"a", "b"}
    second = client.responses.create(
        model="demo",
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "5"}],
        tools=[CALC],
        max_output_tokens=24,
    )
    assert second.output


def test_a_streamed_function_call_has_its_events(client: OpenAI) -> None:
    events: list[Any] = list(
        client.responses.create(
            model="demo",
            input="What is 2 + 3?",
            tools=[CALC],
            tool_choice={"type": "function", "name": "add"},
            parallel_tool_calls=False,
            temperature=0,
            max_output_tokens=80,
            stream=True,
        )
    )
    arguments = "".join(
        event.delta for event in events if event.type == "response.function_call_arguments.delta"
    )
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert done.arguments == arguments and json.loads(arguments)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"background": True}, "background"),
        ({"previous_response_id": "resp_x"}, "response_id"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)
def test_what_is_not_served_is_refused(endpoint: ServerProcess, change: Any, param: str) -> None:
    status, _, body = endpoint.request("POST", "/v1/responses", {"input": "x", **change})
    assert status in (400, 404)
    assert json.loads(body)["error"]["param"] == param
