"""Anthropic's ``/v1/messages``."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from app.server.schemas.base import Answered, Asked, ModelName, Probability


class TextBlock(Asked, kw_only=True, frozen=True, tag_field="type", tag="text"):
    text: str


class ImageBlock(Asked, kw_only=True, frozen=True, tag_field="type", tag="image"):
    source: Any = None


class DocumentBlock(Asked, kw_only=True, frozen=True, tag_field="type", tag="document"):
    source: Any = None


class ToolUseBlock(Asked, kw_only=True, frozen=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class ThinkingBlock(Asked, kw_only=True, frozen=True, tag_field="type", tag="thinking"):
    thinking: str
    signature: str = ""


class RedactedBlock(Asked, kw_only=True, frozen=True, tag_field="type", tag="redacted_thinking"):
    data: str = ""


class ToolResultBlock(Asked, kw_only=True, frozen=True, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock] | None = None
    is_error: bool | None = None


Block: TypeAlias = (
    TextBlock | ImageBlock | DocumentBlock | ToolUseBlock | ThinkingBlock | RedactedBlock | ToolResultBlock
)


class Turn(Asked, kw_only=True, frozen=True):
    role: Literal["user", "assistant"]
    content: str | list[Block]


class MessagesTool(Asked, kw_only=True, frozen=True):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None


class ToolChoice(Asked, kw_only=True, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class Thinking(Asked, kw_only=True, frozen=True):
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = None


class CountRequest(Asked, kw_only=True, frozen=True):
    """A conversation whose tokens are counted."""

    messages: Annotated[list[Turn], Meta(min_length=1, max_length=4096)]
    model: ModelName | None = None
    system: str | list[TextBlock] | None = None
    tools: Annotated[list[MessagesTool], Meta(max_length=256)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None


class MessagesRequest(CountRequest, kw_only=True, frozen=True):
    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    stop_sequences: (
        Annotated[list[Annotated[str, Meta(min_length=1, max_length=1024)]], Meta(max_length=64)] | None
    ) = None
    temperature: Annotated[float, Meta(ge=0, le=100)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    stream: bool | None = None
    metadata: Any = None


class AnswerText(Answered, kw_only=True, frozen=True, tag_field="type", tag="text"):
    text: str


class AnswerToolUse(Answered, kw_only=True, frozen=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class AnswerThinking(Answered, kw_only=True, frozen=True, tag_field="type", tag="thinking"):
    thinking: str
    signature: str = ""


AnswerBlock: TypeAlias = AnswerText | AnswerToolUse | AnswerThinking


class MessagesUsage(Answered, kw_only=True, frozen=True):
    """``input_tokens`` are those that were not in the cache."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class MessageAnswer(Answered, kw_only=True, frozen=True):
    id: str
    model: str
    content: list[AnswerBlock]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"] | None
    stop_sequence: str | None
    usage: MessagesUsage
    role: Literal["assistant"] = "assistant"
    type: Literal["message"] = "message"


class MessageEvent(Answered, kw_only=True, frozen=True, omit_defaults=True):
    """One event of a stream; which fields it has follows from its type."""

    type: str
    message: MessageAnswer | None = None
    index: int | None = None
    content_block: AnswerBlock | None = None
    delta: dict[str, Any] | None = None
    usage: MessagesUsage | None = None


class TokenCount(Answered, kw_only=True, frozen=True):
    input_tokens: int


class MessagesFault(Answered, kw_only=True, frozen=True):
    type: str
    message: str


class MessagesError(Answered, kw_only=True, frozen=True):
    error: MessagesFault
    type: Literal["error"] = "error"
