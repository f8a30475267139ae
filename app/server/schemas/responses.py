"""``/v1/responses``: items in, items out."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from app.server.schemas.base import Answered, Asked, ModelName, Probability, Schema
from app.server.schemas.chat import AllowedTools, TextFormat

# -- what comes in -----------------------------------------------------------------------------------------


class InputText(Asked, kw_only=True, frozen=True, tag_field="type", tag="input_text"):
    text: str


class OutputTextPart(Asked, kw_only=True, frozen=True, tag_field="type", tag="output_text"):
    text: str


class RefusalPart(Asked, kw_only=True, frozen=True, tag_field="type", tag="refusal"):
    refusal: str


class InputImage(Asked, kw_only=True, frozen=True, tag_field="type", tag="input_image"):
    image_url: str | None = None


class InputFile(Asked, kw_only=True, frozen=True, tag_field="type", tag="input_file"):
    filename: str | None = None


class InputAudio(Asked, kw_only=True, frozen=True, tag_field="type", tag="input_audio"):
    input_audio: Any = None


InputPart: TypeAlias = InputText | OutputTextPart | RefusalPart | InputImage | InputFile | InputAudio


class MessageItem(Asked, kw_only=True, frozen=True, tag_field="type", tag="message"):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputPart]


class FunctionCallItem(Asked, kw_only=True, frozen=True, tag_field="type", tag="function_call"):
    call_id: str
    name: str
    arguments: str = ""


class FunctionOutputItem(Asked, kw_only=True, frozen=True, tag_field="type", tag="function_call_output"):
    call_id: str
    output: str | list[InputPart]


class ReasoningText(Asked, kw_only=True, frozen=True):
    text: str
    type: str = "reasoning_text"


class ReasoningItem(Asked, kw_only=True, frozen=True, tag_field="type", tag="reasoning"):
    content: list[ReasoningText] | None = None
    summary: list[ReasoningText] | None = None


class ItemReference(Asked, kw_only=True, frozen=True, tag_field="type", tag="item_reference"):
    id: str


InputItem: TypeAlias = MessageItem | FunctionCallItem | FunctionOutputItem | ReasoningItem | ItemReference


class JsonObjectFormat(Asked, kw_only=True, frozen=True, tag_field="type", tag="json_object"):
    pass


class JsonSchemaFormat(Asked, kw_only=True, frozen=True, tag_field="type", tag="json_schema"):
    name: str
    schema: Schema = msgspec.field(default_factory=dict)
    strict: bool | None = None
    description: str | None = None


class TextOptions(Asked, kw_only=True, frozen=True):
    format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: str | None = None


class ReasoningOptions(Asked, kw_only=True, frozen=True):
    effort: Annotated[str, Meta(max_length=32)] | None = None
    summary: str | None = None


class NamedFunction(Asked, kw_only=True, frozen=True, tag_field="type", tag="function"):
    name: str


class Allowed(AllowedTools, kw_only=True, frozen=True, tag_field="type", tag="allowed_tools"):
    pass


class ResponseRequest(Asked, kw_only=True, frozen=True):
    """``input``: a text, or items: messages, function calls, their outputs, reasoning.

    ``store`` keeps the response for ``previous_response_id`` and for reading, as long as the server runs and
    has room for it.
    """

    input: str | Annotated[list[dict[str, Any]], Meta(max_length=4096)] = ""
    model: ModelName | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Probability | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=256)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | Allowed | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    stream: bool | None = None
    include: list[str] | None = None
    metadata: Annotated[dict[str, str], Meta(max_length=16)] | None = None
    user: str | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None


# -- what goes out -----------------------------------------------------------------------------------------


class OutputText(Answered, kw_only=True, frozen=True):
    text: str
    annotations: list[Any] = msgspec.field(default_factory=list)
    logprobs: list[Any] = msgspec.field(default_factory=list)
    type: Literal["output_text"] = "output_text"


class OutputMessage(Answered, kw_only=True, frozen=True, tag_field="type", tag="message"):
    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class OutputCall(Answered, kw_only=True, frozen=True, tag_field="type", tag="function_call"):
    id: str
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed", "incomplete"]


class ReasoningContent(Answered, kw_only=True, frozen=True):
    text: str
    type: Literal["reasoning_text"] = "reasoning_text"


class OutputReasoning(Answered, kw_only=True, frozen=True, tag_field="type", tag="reasoning"):
    id: str
    content: list[ReasoningContent]
    status: Literal["in_progress", "completed", "incomplete"]
    summary: list[Any] = msgspec.field(default_factory=list)


OutputItem: TypeAlias = OutputMessage | OutputCall | OutputReasoning


class InputDetails(Answered, kw_only=True, frozen=True):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(Answered, kw_only=True, frozen=True):
    reasoning_tokens: int


class ResponseUsage(Answered, kw_only=True, frozen=True):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputDetails
    output_tokens_details: OutputDetails


class ResponseFault(Answered, kw_only=True, frozen=True):
    code: str
    message: str


class Incomplete(Answered, kw_only=True, frozen=True):
    reason: Literal["max_output_tokens"]


class Response(Answered, kw_only=True, frozen=True):
    """``truncated_messages``: how many turns were left out of the prompt, where that was asked for."""

    id: str
    created_at: int
    model: str
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    output: list[OutputItem]
    tools: list[dict[str, Any]]
    tool_choice: Any
    parallel_tool_calls: bool
    text: dict[str, Any]
    truncation: str
    store: bool
    temperature: float | None
    top_p: float | None
    instructions: str | None = None
    max_output_tokens: int | None = None
    previous_response_id: str | None = None
    usage: ResponseUsage | None = None
    error: ResponseFault | None = None
    incomplete_details: Incomplete | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    object: Literal["response"] = "response"
    truncated_messages: int = 0


class ResponseEvent(Answered, kw_only=True, frozen=True, omit_defaults=True):
    """One event of a stream; which fields it has follows from its type."""

    type: str
    sequence_number: int
    response: Response | None = None
    output_index: int | None = None
    content_index: int | None = None
    item_id: str | None = None
    item: OutputItem | None = None
    part: Any = None
    delta: str | None = None
    text: str | None = None
    arguments: str | None = None
    name: str | None = None
    logprobs: list[Any] | None = None
    code: str | None = None
    message: str | None = None
    param: str | None = None


class InputItems(Answered, kw_only=True, frozen=True):
    data: list[dict[str, Any]]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False
    object: Literal["list"] = "list"


class Deleted(Answered, kw_only=True, frozen=True):
    id: str
    object: Literal["response"] = "response"
    deleted: bool = True
