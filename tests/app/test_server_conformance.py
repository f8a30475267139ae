"""Every answer has the shape of OpenAI's and Anthropic's published interfaces.

Their clients' types are generated from those documents; the clients themselves do not check what they read,
so it is checked here, strictly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic.types as anthropic_types
import pytest
from openai.types import Completion, CreateEmbeddingResponse, ErrorObject, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter, ValidationError

from tests.app.server_process import ServerProcess

pytestmark = pytest.mark.model

ASK = [{"role": "user", "content": "Say hello."}]
FUNCTION = {"name": "now", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}
CHAT: dict[str, dict[str, Any]] = {
    "plain": {},
    "several, with log probabilities": {"n": 2, "logprobs": True, "top_logprobs": 2},
    "a tool": {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required"},
    "an object": {"response_format": {"type": "json_object"}},
}
RESPONSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "a tool": {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "required"},
    "instructions and log probabilities": {
        "instructions": "Be brief.",
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
    },
}
TOOL_USE = {
    "tools": [{"name": "now", "input_schema": FUNCTION["parameters"]}],
    "tool_choice": {"type": "any"},
}


def fits(kind: Any, value: Any) -> None:
    """Raise ValidationError where ``value`` is none of ``kind``."""
    TypeAdapter(kind).validate_json(json.dumps(value), strict=True)


def events(server: ServerProcess, path: str, body: dict[str, Any]) -> Iterator[Any]:
    """The events of a stream."""
    status, _, answer = server.request("POST", path, body | {"stream": True})
    assert status == 200, answer
    for line in answer.decode().splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize("case", CHAT)
def test_chat(endpoint: ServerProcess, case: str) -> None:
    body = {"model": "demo", "messages": ASK, "max_tokens": 12, "stream_options": {"include_usage": True}}
    body |= CHAT[case]
    whole = endpoint.post("/v1/chat/completions", body)
    fits(ChatCompletion, whole)
    chunks = list(events(endpoint, "/v1/chat/completions", body))
    for chunk in chunks:
        fits(ChatCompletionChunk, chunk)
    assert len(chunks) > 2 and chunks[-1]["usage"]["completion_tokens"] > 0


def test_completions(endpoint: ServerProcess) -> None:
    body = {"model": "demo", "prompt": ["One,", "Two,"], "max_tokens": 3, "logprobs": 2, "echo": True}
    fits(Completion, endpoint.post("/v1/completions", body))


@pytest.mark.parametrize("case", RESPONSES)
def test_responses(endpoint: ServerProcess, case: str) -> None:
    body = {"model": "demo", "input": "Say hello.", "max_output_tokens": 16} | RESPONSES[case]
    response = endpoint.post("/v1/responses", body)
    fits(Response, response)
    fits(Response, endpoint.get(f"/v1/responses/{response['id']}"))
    seen = list(events(endpoint, "/v1/responses", body))
    for event in seen:
        fits(ResponseStreamEvent, event)
    assert [event["sequence_number"] for event in seen] == list(range(len(seen)))


@pytest.mark.parametrize("more", [{}, TOOL_USE], ids=["plain", "a tool"])
def test_anthropics_messages(endpoint: ServerProcess, more: dict[str, Any]) -> None:
    body = {"model": "demo", "messages": ASK, "max_tokens": 24} | more
    fits(anthropic_types.Message, endpoint.post("/v1/messages", body))
    for event in events(endpoint, "/v1/messages", body):
        fits(anthropic_types.RawMessageStreamEvent, event)


def test_embeddings_and_models(endpoint: ServerProcess) -> None:
    body = {"model": "demo", "input": ["a", "b"]}
    fits(CreateEmbeddingResponse, endpoint.post("/v1/embeddings", body))
    for model in endpoint.get("/v1/models")["data"]:
        fits(Model, model)


def test_errors(endpoint: ServerProcess) -> None:
    _, _, answer = endpoint.request("POST", "/v1/chat/completions", {"messages": []})
    fits(ErrorObject, json.loads(answer)["error"])


def test_a_wrong_shape_would_be_found() -> None:
    whole = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}],
    }
    fits(ChatCompletion, whole)
    for change in ({"object": "chat"}, {"created": "now"}, {"choices": [{"index": 0}]}):
        with pytest.raises(ValidationError):
            fits(ChatCompletion, whole | change)
