"""Structured outputs and tool calls: the official client against the endpoint, on the demo model."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.app.test_server_openai import ASK

pytestmark = pytest.mark.model

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


class TestStructured:
    def test_parse_gives_the_model_that_was_asked_for(self, client: OpenAI) -> None:
        class Person(BaseModel):
            name: str
            age: int

        answer = client.chat.completions.parse(
            model="demo",
            messages=[{"role": "user", "content": "Tell me of Ann, who is 31 years old."}],
            response_format=Person,
            max_tokens=100,
            temperature=0,
        )
        parsed = answer.choices[0].message.parsed
        assert isinstance(parsed, Person)
        assert answer.choices[0].finish_reason == "stop"

    def test_json_object_gives_an_object(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": 'Answer in JSON: {"capital": ...} of France.'}],
            response_format={"type": "json_object"},
            max_tokens=200,
            temperature=0,
        )
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)
        else:
            assert (answer.choices[0].message.content or "").lstrip().startswith("{")

    def test_a_stream_of_structured_output_is_accumulated_by_the_client(self, client: OpenAI) -> None:
        class Answer(BaseModel):
            yes: bool

        with client.chat.completions.stream(
            model="demo", messages=ASK, response_format=Answer, max_tokens=40, temperature=0
        ) as stream:
            for _event in stream:
                pass
            final = stream.get_final_completion()
        assert isinstance(final.choices[0].message.parsed, Answer)

    @pytest.mark.parametrize(
        "schema",
        [
            {"type": "nonsense"},
            {"type": "string", "pattern": "(?<=x)y"},
            {"type": "array", "minItems": 10**9},
            {"$ref": "http://example.com/schema.json"},
        ],
    )
    def test_a_schema_that_cannot_be_used_is_refused(self, client: OpenAI, schema: Any) -> None:
        with pytest.raises(openai.BadRequestError, match=r"schema|grammar|response_format"):
            client.chat.completions.create(
                model="demo",
                messages=ASK,
                max_tokens=4,
                response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
            )


class TestTools:
    @pytest.mark.parametrize(
        "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
    )
    def test_a_required_tool_is_called_with_arguments_of_its_schema(
        self, client: OpenAI, choice: Any
    ) -> None:
        answer = client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "The weather in Rome for 3 days?"}],
            tools=[WEATHER],
            tool_choice=choice,
            parallel_tool_calls=False,
            max_tokens=100,
            temperature=0,
        )
        calls = answer.choices[0].message.tool_calls
        assert calls is not None
        (call,) = calls
        assert call.type == "function"
        assert call.function.name == "get_weather"
        arguments = json.loads(call.function.arguments)
        assert set(arguments) == {"city", "days"} and isinstance(arguments["days"], int)
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.choices[0].message.content is None

    def test_a_streamed_call_is_the_whole_call(self, client: OpenAI) -> None:
        def ask(stream: bool) -> Any:
            return client.chat.completions.create(
                model="demo",
                messages=[{"role": "user", "content": "The weather in Rome for 3 days?"}],
                tools=[WEATHER],
                tool_choice="required",
                parallel_tool_calls=False,
                max_tokens=100,
                temperature=0,
                stream=stream,
            )

        name, arguments, identifiers, reasons = "", "", set(), []
        for chunk in ask(True):
            for choice in chunk.choices:
                reasons.append(choice.finish_reason)
                for call in choice.delta.tool_calls or ():
                    assert call.index == 0
                    name += call.function.name or ""
                    arguments += call.function.arguments or ""
                    identifiers |= {call.id} - {None}
        whole = ask(False).choices[0].message.tool_calls[0]
        assert (name, arguments) == (whole.function.name, whole.function.arguments)
        assert len(identifiers) == 1 and reasons[-1] == "tool_calls"

    def test_the_result_of_a_tool_is_read(self, client: OpenAI) -> None:
        turns: Any = [
            {"role": "user", "content": "The weather in Rome?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city": "Rome", "days": 1}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny, 31 degrees"},
        ]
        answer = client.chat.completions.create(
            model="demo", messages=turns, tools=[WEATHER], max_tokens=30, temperature=0
        )
        assert answer.usage is not None and answer.usage.prompt_tokens > 150  # tools and turns are in it
        assert answer.choices[0].message.content or answer.choices[0].message.tool_calls

    def test_tool_choice_none_leaves_the_tools_out(self, client: OpenAI) -> None:
        with_tools = client.chat.completions.create(
            model="demo", messages=ASK, tools=[WEATHER], tool_choice="none", max_tokens=4, temperature=0
        )
        without = client.chat.completions.create(model="demo", messages=ASK, max_tokens=4, temperature=0)
        assert with_tools.usage is not None and without.usage is not None
        assert with_tools.usage.prompt_tokens == without.usage.prompt_tokens

    def test_a_tool_that_is_not_there_cannot_be_chosen(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="'other'"):
            client.chat.completions.create(
                model="demo",
                messages=ASK,
                tools=[WEATHER],
                tool_choice={"type": "function", "function": {"name": "other"}},
            )
