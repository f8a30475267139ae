"""What a chat template understands, and a conversation put in its words.

Templates differ in what they accept: Gemma 2 refuses the system role, Mistral wants tool call ids of nine
characters, some want arguments as an object and some as text, and some leave out without a word what they do
not know. Reading the source cannot tell, so a template is asked once: small conversations with random words
are rendered, and what does not come back was not understood. Only whether it knows the role ``developer`` is
read from the source, because ChatML-like templates print every role, also those that no model has seen.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, Literal

import msgspec

from runtime.engine.templates.chat import ChatMessage, FunctionCall, ToolCall, read_arguments

Rendered = Callable[[list[dict[str, Any]], list[dict[str, Any]]], str | None]
"""Messages and tools -> the rendered text, or None if the template refused them."""

SHORT_ID = 9


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What a template understands. The defaults are what templates should."""

    system: bool = True
    """False: system messages are put in front of the next user message."""
    developer: bool = False
    """False: developer messages become system messages."""
    content: Literal["text", "parts"] = "text"
    """Whether a content is a text or a list of ``{"type": "text"}``."""
    empty_content: Literal["text", "null"] = "text"
    """An assistant's content beside tool calls: "" or null."""
    tools: Literal["as given", "described", "refused"] = "as given"
    """``described``: every function and parameter must have a description."""
    arguments: Literal["object", "text", "content"] = "object"
    """``content``: the template leaves tool calls out, so that they go into the content, in JSON."""
    short_ids: bool = False
    """Tool call ids must have nine letters or digits."""
    tool_results: bool = True
    """False: messages of the role ``tool`` are left out or refused."""
    reasoning: str = "reasoning_content"
    """The key under which the template looks for an assistant's reasoning."""


def learn_dialect(rendered: Rendered, source: str) -> Dialect:
    """Ask a template, in at most 14 renderings of a few words, 4 for most."""
    word = {
        name: f"{name}{secrets.token_hex(4)}" for name in ("user", "system", "tool", "argument", "result")
    }
    user = ChatMessage(role="user", content=word["user"])

    def understood(
        dialect: Dialect, *messages: ChatMessage, tools: Sequence[dict[str, Any]] = (), words: Sequence[str]
    ) -> bool:
        text = rendered(adapt_messages(messages, dialect), adapt_tools(tools, dialect))
        return text is not None and all(word[name] in text for name in words)

    dialect = Dialect(reasoning=_reasoning_key(source))
    if not understood(dialect, user, words=["user"]):
        parts = msgspec.structs.replace(dialect, content="parts")
        if not understood(parts, user, words=["user"]):
            return dialect  # nothing can be learnt from a template that refuses a plain question
        dialect = parts
    for role in ("system", "developer"):
        knows = role == "system" or re.search(r"""(['"])developer\1""", source) is not None
        candidate = msgspec.structs.replace(dialect, **{role: True})
        instruction = ChatMessage(role=role, content=word["system"])
        heard = knows and understood(candidate, instruction, user, words=["user", "system"])
        dialect = msgspec.structs.replace(dialect, **{role: heard})
    tools = [_probe_tool(word["tool"])]
    dialect = _first(
        [msgspec.structs.replace(dialect, tools=form) for form in ("as given", "described", "refused")],
        lambda candidate: understood(candidate, user, tools=tools, words=["tool"]),
    )
    call = ToolCall(
        id=f"call_{secrets.token_hex(12)}",
        function=FunctionCall(name=word["tool"], arguments={"city": word["argument"]}),
    )
    history = (
        user,
        ChatMessage(role="assistant", tool_calls=(call,)),
        ChatMessage(role="tool", content=word["result"], tool_call_id=call.id),
    )
    forms = [
        msgspec.structs.replace(dialect, short_ids=short, arguments=arguments, empty_content=empty)
        for arguments, short, empty in product(("object", "text"), (False, True), ("text", "null"))
    ]
    forms.append(msgspec.structs.replace(dialect, arguments="content"))
    forms.append(msgspec.structs.replace(dialect, arguments="content", tool_results=False))
    offered = () if dialect.tools == "refused" else tools
    return _first(
        forms,
        lambda candidate: understood(
            candidate, *history, tools=offered, words=["user", "argument", "result"]
        ),
    )


def adapt_messages(messages: Sequence[ChatMessage], dialect: Dialect) -> list[dict[str, Any]]:
    """The messages as a template of this dialect reads them: fresh dicts, whose contents are never null
    unasked.
    """
    adapted: list[dict[str, Any]] = []
    pending: list[str] = []
    called = {call.id: call.function.name for message in messages for call in message.tool_calls or ()}
    for index, message in enumerate(messages):
        role = "system" if message.role == "developer" and not dialect.developer else message.role
        text = message.text
        if role == "system" and not dialect.system:
            pending.append(text)
            continue
        if pending and role == "user":
            text = "\n\n".join([*pending, text])
            pending.clear()
        item: dict[str, Any] = {"role": role, "content": text}
        name = message.name or (called.get(message.tool_call_id or "") if role == "tool" else None)
        if name is not None:
            item["name"] = name
        if message.reasoning_content is not None:
            item[dialect.reasoning] = message.reasoning_content
        if message.tool_call_id is not None:
            item["tool_call_id"] = _call_id(message.tool_call_id, dialect)
        if message.tool_calls:
            _add_calls(item, message.tool_calls, dialect, f"messages[{index}].tool_calls")
        if dialect.content == "parts" and item["content"] is not None:
            item["content"] = [{"type": "text", "text": item["content"]}]
        adapted.append(item)
    if pending:
        text = "\n\n".join(pending)
        parts = [{"type": "text", "text": text}]
        adapted.append({"role": "user", "content": parts if dialect.content == "parts" else text})
    return adapted


def adapt_tools(tools: Sequence[dict[str, Any]], dialect: Dialect) -> list[dict[str, Any]]:
    """The tool definitions, with empty descriptions where a template stumbles over missing ones."""
    if dialect.tools != "described":
        return list(tools)
    return [{**tool, "function": _described(tool["function"])} for tool in tools]


def _add_calls(item: dict[str, Any], calls: Sequence[ToolCall], dialect: Dialect, field: str) -> None:
    functions = []
    for number, call in enumerate(calls):
        place = f"{field}[{number}].function.arguments"
        arguments = read_arguments(call.function.arguments, place)
        functions.append({"name": call.function.name, "arguments": arguments})
    if dialect.arguments == "content":
        blocks = [f"<tool_call>\n{_json(function)}\n</tool_call>" for function in functions]
        item["content"] = "\n".join([*filter(None, [item["content"]]), *blocks])
        return
    item["tool_calls"] = []
    for call, function in zip(calls, functions, strict=True):
        if dialect.arguments == "text":
            function["arguments"] = _json(function["arguments"])
        item["tool_calls"].append(
            {"id": _call_id(call.id, dialect), "type": "function", "function": function}
        )
    if not item["content"] and dialect.empty_content == "null":
        item["content"] = None


def _call_id(identifier: str, dialect: Dialect) -> str:
    """Nine hexadecimal digits that stand for an id of another length, the same ones in the call and its
    result.
    """
    if not dialect.short_ids or re.fullmatch(r"[A-Za-z0-9]{9}", identifier):
        return identifier
    return hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()[:SHORT_ID]


def _described(function: dict[str, Any]) -> dict[str, Any]:
    described = {**function, "description": function.get("description", "")}
    parameters = described.get("parameters")
    if isinstance(parameters, dict) and isinstance(parameters.get("properties"), dict):
        properties = {
            name: {**schema, "description": schema.get("description", "")}
            if isinstance(schema, dict)
            else schema
            for name, schema in parameters["properties"].items()
        }
        described["parameters"] = {**parameters, "properties": properties}
    return described


def _probe_tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def _first(candidates: Sequence[Dialect], understood: Callable[[Dialect], bool]) -> Dialect:
    """The first candidate that is understood; the last one if none is."""
    return next((candidate for candidate in candidates[:-1] if understood(candidate)), candidates[-1])


def _reasoning_key(source: str) -> str:
    keys = ("reasoning_content", "reasoning", "thinking")
    return next(
        (key for key in keys if re.search(rf"""\.{key}\b|\[['"]{key}['"]\]""", source)), "reasoning_content"
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
