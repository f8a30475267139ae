"""``/v1/messages`` with Anthropic's client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from tests.app.server_process import ServerProcess

pytestmark = pytest.mark.model

TURNS: Any = [{"role": "user", "content": "What is the capital of France?"}]
TOOL: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 16}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def client(endpoint: ServerProcess) -> Iterator[Anthropic]:
    url = endpoint.base_url.removesuffix("/v1")
    with Anthropic(base_url=url, api_key="none", max_retries=0) as made:
        yield made


def test_a_message_is_answered(client: Anthropic) -> None:
    answer = client.messages.create(
        model="demo", max_tokens=16, messages=TURNS, system="", extra_body={"temperature": 0}
    )
    assert answer.content[0].type == "text" and "Paris" in answer.content[0].text
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.output_tokens <= 16


def test_counted_tokens_are_those_of_the_prompt(client: Anthropic) -> None:
    count = client.messages.count_tokens(model="demo", messages=TURNS, system="Be brief.", tools=[TOOL])
    answer = client.messages.create(
        model="demo", max_tokens=1, messages=TURNS, system="Be brief.", tools=[TOOL]
    )
    cached = answer.usage.cache_read_input_tokens or 0
    assert count.input_tokens == answer.usage.input_tokens + cached > 100


def test_a_stream_is_accumulated_by_the_client(client: Anthropic) -> None:
    with client.messages.stream(
        model="demo", max_tokens=16, messages=TURNS, system="", extra_body={"temperature": 0}
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "Paris" in text and final.content[0].text == text  # type: ignore[union-attr]
    assert final.usage.output_tokens > 0 and final.stop_reason is not None


def test_a_stop_sequence_is_named(client: Anthropic) -> None:
    answer = client.messages.create(
        model="demo",
        max_tokens=30,
        messages=TURNS,
        system="",
        extra_body={"temperature": 0},
        stop_sequences=["Par"],
    )
    assert answer.stop_reason == "stop_sequence" and answer.stop_sequence == "Par"


def test_a_tool_is_used_and_its_result_read(client: Anthropic) -> None:
    turns: Any = [{"role": "user", "content": "The weather in Rome?"}]
    answer = client.messages.create(
        model="demo",
        max_tokens=80,
        messages=turns,
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
        extra_body={"temperature": 0},
    )
    (use,) = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use" and isinstance(use.input["city"], str)
    turns += [
        {"role": "assistant", "content": [block.model_dump() for block in answer.content]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "sunny"}]}
            ],
        },
    ]
    after = client.messages.create(model="demo", max_tokens=20, messages=turns, tools=[TOOL])
    assert after.content


def test_a_streamed_tool_use_has_its_input(client: Anthropic) -> None:
    with client.messages.stream(
        model="demo",
        max_tokens=80,
        messages=TURNS,
        tools=[TOOL],
        tool_choice={"type": "any"},
        extra_body={"temperature": 0},
    ) as stream:
        final = stream.get_final_message()
    assert final.content[0].type == "tool_use" and "city" in final.content[0].input


def test_errors_have_anthropics_form(client: Anthropic, endpoint: ServerProcess) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="other", max_tokens=4, messages=TURNS)
    status, _, body = endpoint.request("POST", "/v1/messages", {"messages": TURNS})
    assert status == 400
    error = json.loads(body)
    assert error["type"] == "error" and error["error"]["type"] == "invalid_request_error"
    assert "max_tokens" in error["error"]["message"]
    with pytest.raises(anthropic.BadRequestError, match="1024"):
        client.messages.create(
            model="demo", max_tokens=4, messages=[{"role": "user", "content": "word " * 3000}]
        )
