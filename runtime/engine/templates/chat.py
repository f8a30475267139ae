"""A conversation: its messages and tool definitions as they come in, checked.

The shapes are those of OpenAI's chat completions. Nothing here knows about templates; what a template needs
of a conversation is made by ``dialect``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from runtime.errors import InvalidRequest

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]
"""A closed set: a role reaches templates as it is, and some build control tokens around it."""

MAX_NESTING = 64
"""Lists and objects inside each other, in arguments, tool definitions and template variables."""


# fmt: off
RESERVED_VARIABLES = frozenset({
    "add_generation_prompt", "bos_token", "chat_template", "continue_final_message", "cycler", "datetime",
    "dict", "eos_token", "functions", "joiner", "lipsum", "messages", "namespace", "raise_exception", "range",
    "return_assistant_tokens_mask", "return_dict", "return_tensors", "self", "strftime_now", "tokenize",
    "tools", "xml_tools",
})
# fmt: on
"""Names that a caller's template variables must not take: what the renderer sets, and what servers elsewhere
let requests smuggle in (CVE-2025-62426)."""


class TextPart(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """One part of a content that came in parts."""

    text: str


class FunctionCall(msgspec.Struct, frozen=True):
    """``arguments`` are an object or, as OpenAI has it, the JSON text of one."""

    name: str
    arguments: str | dict[str, Any] = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the assistant made."""

    function: FunctionCall
    id: str = ""
    type: Literal["function"] = "function"


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn. ``content`` may be None beside ``tool_calls``."""

    role: Role
    content: str | tuple[TextPart, ...] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    """What the assistant thought before it answered; most templates leave it out of finished turns."""
    tool_calls: tuple[ToolCall, ...] | None = None
    tool_call_id: str | None = None
    """In a message of the role ``tool``: the call that it answers."""

    @property
    def text(self) -> str:
        """The content as one text; parts are joined by line breaks."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "\n".join(part.text for part in self.content)


def read_messages(messages: Sequence[Mapping[str, Any] | ChatMessage]) -> tuple[ChatMessage, ...]:
    """Check a conversation. Fields that no template reads are dropped.

    Raises InvalidRequest, whose ``field`` is the JSON path of the culprit (``messages[2].role``).
    """
    try:
        read = msgspec.convert(list(messages), tuple[ChatMessage, ...])
    except (msgspec.ValidationError, RecursionError) as error:
        raise _invalid("messages", error) from None
    if not read:
        raise InvalidRequest("messages is empty; send at least one message", field="messages")
    for index, message in enumerate(read):
        for number, call in enumerate(message.tool_calls or ()):
            field = f"messages[{index}].tool_calls[{number}].function.arguments"
            check_nesting(read_arguments(call.function.arguments, field), field)
    return read


def read_arguments(arguments: str | dict[str, Any], field: str) -> dict[str, Any]:
    """The arguments of a tool call as an object; an empty text stands for a call without arguments."""
    if not isinstance(arguments, str):
        return arguments
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{field} is not valid JSON ({error}); send the JSON text of an object", field=field
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest(
            f"{field} is a JSON {type(value).__name__}; send the JSON text of an object", field=field
        )
    return value


def read_tools(tools: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """Check tool definitions: ``{"type": "function", "function": {"name": ..., ...}}``.

    What a definition says beyond its name is passed on as it is. Raises InvalidRequest.
    """
    read = []
    for index, tool in enumerate(tools or ()):
        field = f"tools[{index}]"
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type", "function") != "function":
            raise InvalidRequest(f'{field} must be {{"type": "function", "function": {{...}}}}', field=field)
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise InvalidRequest(f"{field}.function.name must be a text", field=f"{field}.function.name")
        check_nesting(function, field)
        read.append({**tool, "type": "function", "function": dict(function)})
    return read


def read_variables(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Check the variables that a caller sets for a template, such as ``enable_thinking``. Raises
    InvalidRequest.
    """
    for name, value in kwargs.items():
        field = f"chat_template_kwargs.{name}"
        if not name.isidentifier() or name.startswith("_") or name in RESERVED_VARIABLES:
            raise InvalidRequest(f"a template variable cannot be named {name!r}; leave it out", field=field)
        check_nesting(value, field)
    return dict(kwargs)


def check_nesting(value: object, field: str, depth: int = 0) -> None:
    """Raise InvalidRequest unless ``value`` is JSON whose containers nest at most ``MAX_NESTING`` deep."""
    if depth > MAX_NESTING:
        raise InvalidRequest(
            f"{field} nests deeper than {MAX_NESTING} levels; flatten it or leave it out", field=field
        )
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidRequest(f"{field} has the key {key!r}, which is not a text", field=field)
            check_nesting(item, field, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            check_nesting(item, field, depth + 1)
    elif not isinstance(value, str | int | float | bool | None):
        raise InvalidRequest(f"{field} holds a {type(value).__name__}, which is not JSON", field=field)


def _invalid(root: str, error: Exception) -> InvalidRequest:
    """msgspec names the place as ``... - at `$[2].role```."""
    text, _, place = str(error).partition(" - at `$")
    field = root + re.sub(r"`.*", "", place, flags=re.DOTALL)
    return InvalidRequest(f"{field}: {text}", field=field)
