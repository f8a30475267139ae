"""``/v1/chat/completions``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.server.schemas.base import (
    Answered,
    Asked,
    Finish,
    ModelName,
    Sampled,
    Schema,
    StreamOptions,
    Timings,
    Usage,
)


class TextPart(Asked, kw_only=True, frozen=True, tag_field="type", tag="text"):
    text: str


class RefusalPart(Asked, kw_only=True, frozen=True, tag_field="type", tag="refusal"):
    refusal: str


class ImageUrl(Asked, kw_only=True, frozen=True):
    url: str
    detail: str | None = None


class ImagePart(Asked, kw_only=True, frozen=True, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class AudioPart(Asked, kw_only=True, frozen=True, tag_field="type", tag="input_audio"):
    input_audio: dict[str, Any]


class FilePart(Asked, kw_only=True, frozen=True, tag_field="type", tag="file"):
    file: dict[str, Any]


Part: TypeAlias = TextPart | RefusalPart | ImagePart | AudioPart | FilePart


class CalledFunction(Asked, kw_only=True, frozen=True):
    """``arguments``: JSON text, as OpenAI has it, or an object."""

    name: str
    arguments: str | dict[str, Any] = ""


class ToolCall(Asked, kw_only=True, frozen=True):
    function: CalledFunction
    id: str = ""
    type: Literal["function"] = "function"


class Message(Asked, kw_only=True, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=128)] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None


class Function(Asked, kw_only=True, frozen=True):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Asked, kw_only=True, frozen=True):
    function: Function
    type: Literal["function"] = "function"


class NamedFunction(Asked, kw_only=True, frozen=True):
    name: str


class NamedTool(Asked, kw_only=True, frozen=True, tag_field="type", tag="function"):
    function: NamedFunction


class AllowedTools(Asked, kw_only=True, frozen=True):
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


class AllowedToolsChoice(Asked, kw_only=True, frozen=True, tag_field="type", tag="allowed_tools"):
    allowed_tools: AllowedTools


class TextFormat(Asked, kw_only=True, frozen=True, tag_field="type", tag="text"):
    pass


class JsonObjectFormat(Asked, kw_only=True, frozen=True, tag_field="type", tag="json_object"):
    """Any JSON object; with a ``schema``, as llama.cpp has it, one of that schema."""

    schema: Schema | None = None


class JsonSchema(Asked, kw_only=True, frozen=True):
    name: str
    schema: Schema = msgspec.field(default_factory=dict)
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(Asked, kw_only=True, frozen=True, tag_field="type", tag="json_schema"):
    json_schema: JsonSchema


class ChatRequest(Sampled, kw_only=True, frozen=True):
    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    model: ModelName | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    tools: Annotated[list[Tool], Meta(max_length=256)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | AllowedToolsChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Annotated[str, Meta(max_length=32)] | None = None
    chat_template_kwargs: (
        Annotated[
            dict[str, Any], Meta(description="More variables for the template, such as `enable_thinking`.")
        ]
        | None
    ) = None
    truncation: (
        Annotated[
            Literal["auto", "disabled"],
            Meta(description="`auto`: drop the oldest turns of a conversation that does not fit."),
        ]
        | None
    ) = None
    modalities: list[str] | None = None
    functions: Any = None
    chat_template: Any = None


class TopLogprob(Answered, kw_only=True, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob, kw_only=True, frozen=True):
    top_logprobs: list[TopLogprob] = msgspec.field(default_factory=list)


class Logprobs(Answered, kw_only=True, frozen=True):
    content: list[TokenLogprob]
    refusal: None = None


class FunctionAnswer(Answered, kw_only=True, frozen=True):
    name: str
    arguments: str


class ToolCallAnswer(Answered, kw_only=True, frozen=True):
    id: str
    function: FunctionAnswer
    type: Literal["function"] = "function"


class ChatAnswer(Answered, kw_only=True, frozen=True):
    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallAnswer] | UnsetType = UNSET


class Choice(Answered, kw_only=True, frozen=True):
    index: int
    message: ChatAnswer
    finish_reason: Finish
    logprobs: Logprobs | None = None


class ChatCompletion(Answered, kw_only=True, frozen=True):
    """The answer. ``truncated_messages``: how many turns were left out of the prompt, where that was asked
    for."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    timings: Timings
    system_fingerprint: str
    object: Literal["chat.completion"] = "chat.completion"
    truncated_messages: int = 0


class FunctionDelta(Answered, kw_only=True, frozen=True, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(Answered, kw_only=True, frozen=True, omit_defaults=True):
    index: int
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None


class Delta(Answered, kw_only=True, frozen=True, omit_defaults=True):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(Answered, kw_only=True, frozen=True):
    index: int
    delta: Delta
    finish_reason: Finish | None = None
    logprobs: Logprobs | None = None


class ChatChunk(Answered, kw_only=True, frozen=True, omit_defaults=True):
    """One event of a stream; the last before ``[DONE]`` has no choices and the usage, where that was asked
    for."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str
    object: str
    usage: Usage | None = None
    timings: Timings | None = None
    truncated_messages: int = 0
