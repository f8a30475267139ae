"""Tools for models whose template has no place for them: described in the system message, in the manner of
Hermes (NousResearch, "Hermes Function Calling"), which the parser of the generic family reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = """\
You may call functions to help with the user's request. These are the functions, as JSON schemas:
<tools>
{tools}
</tools>
To call one, write a JSON object with its name and its arguments, like this, and nothing else:
<tool_call>
{{"name": "the function's name", "arguments": {{"the argument's name": "its value"}}}}
</tool_call>"""


def with_instructions(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The conversation without tools in it: definitions, calls and results as plain text."""
    head = _HEAD.format(tools="\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools))
    turns = [dict(message) for message in messages]
    if tools:
        if turns and turns[0].get("role") in ("system", "developer"):
            turns[0]["content"] = f"{text_of(turns[0].get('content'))}\n\n{head}"
        else:
            turns.insert(0, {"role": "system", "content": head})
    plain: list[dict[str, Any]] = []
    for turn in turns:
        calls = turn.pop("tool_calls", None)
        if calls:
            blocks = [_call(call) for call in calls]
            turn["content"] = "\n".join(filter(None, [text_of(turn.get("content")), *blocks]))
        if turn.get("role") == "tool":
            response = f"<tool_response>\n{text_of(turn.get('content'))}\n</tool_response>"
            if plain and plain[-1].get("results"):
                plain[-1]["content"] += f"\n{response}"
                continue
            turn = {"role": "user", "content": response, "results": True}
        plain.append(turn)
    return [{key: value for key, value in turn.items() if key != "results"} for turn in plain]


def text_of(content: Any) -> str:
    """A content as one text."""
    if isinstance(content, list | tuple):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content or ""


def _call(call: Mapping[str, Any]) -> str:
    function = call["function"]
    arguments = function.get("arguments") or "{}"
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {json.dumps(function["name"])}, "arguments": {shown}}}\n</tool_call>'
