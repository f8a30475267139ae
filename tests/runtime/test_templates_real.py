"""Templates as models bring them: a folder of ``*.jinja`` files named by ``LOCALQ_TEMPLATES``.

llama.cpp's source has 70 in ``models/templates``. Without such a folder the families of these tests stand in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.engine.templates.renderer import ChatTemplate, TemplateRenderer, split_prompt
from runtime.errors import TemplateError
from tests.runtime.template_families import FAMILIES

pytestmark = pytest.mark.slow

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name"},
                "Days_ahead": {"type": "integer"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city"],
        },
    },
}
CALL = {
    "id": "call_0123456789abcdef01234567",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris", "days": 2}'},
}
PLAIN = [
    {"role": "user", "content": "first question"},
    {"role": "assistant", "content": "first answer"},
    {"role": "user", "content": "second question"},
]
CONVERSATIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "plain": ({"messages": PLAIN}, ["first question", "first answer", "second question"]),
    "system": (
        {"messages": [{"role": "system", "content": "be kind"}, *PLAIN]},
        ["be kind", "first question", "second question"],
    ),
    "developer": (
        {"messages": [{"role": "developer", "content": "be kind"}, *PLAIN]},
        ["be kind", "first question", "second question"],
    ),
    "tools": ({"messages": PLAIN, "tools": [TOOL]}, ["second question", "get_weather"]),
    "history": (
        {
            "messages": [
                *PLAIN,
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "content": "sunny", "tool_call_id": CALL["id"]},
                {"role": "assistant", "content": "It is sunny."},
                {"role": "user", "content": "third question"},
            ],
            "tools": [TOOL],
        },
        ["first question", "get_weather", "Paris", "sunny", "third question"],
    ),
}

CONTROL_TEXT = re.compile(r"<[|｜][^<>\s'\"{}]{1,40}[|｜]>|</?[a-z_]{1,20}>|\[/?[A-Z_]{3,20}\]")


def sources() -> list[tuple[str, str]]:
    folder = os.environ.get("LOCALQ_TEMPLATES")
    if folder is None:
        return [(name, family.source) for name, family in FAMILIES.items()]
    return [(path.name, path.read_text("utf-8")) for path in sorted(Path(folder).glob("*.jinja"))]


def template(source: str) -> ChatTemplate:
    controls = {"<s>", "</s>", "<unk>", *CONTROL_TEXT.findall(source)}
    return ChatTemplate(source, "<s>", "</s>", tuple(sorted(controls)))


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    with TemplateRenderer() as renderer:
        yield renderer


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_real_templates_render_or_refuse_clearly(renderer: TemplateRenderer, conversation: str) -> None:
    """Every word arrives, or a TemplateError says what the template has no place for."""
    options, words = CONVERSATIONS[conversation]
    refused = {}
    for name, source in sources():
        try:
            text = renderer.render(template(source), **options).text
        except TemplateError as error:
            refused[name] = str(error)
        else:
            assert [word for word in words if word not in text] == [], name
    print(f"{conversation}: {len(sources()) - len(refused)} of {len(sources())} rendered", refused)
    if conversation not in {"tools", "history"}:
        assert refused == {}
    assert [reason for reason in refused.values() if not re.search("no place for|refused", reason)] == []


def test_control_tokens_of_users_reach_real_templates_as_text(renderer: TemplateRenderer) -> None:
    """Each user's text holds one control text of the template's own, whole, cut, and wrapped."""
    for name, source in sources():
        chat = template(source)
        harmless = renderer.render(chat, PLAIN)
        expected = [piece.text for piece in split_prompt(harmless, chat.control_texts) if piece.is_control]
        for control in chat.control_texts:
            messages = [dict(PLAIN[0]), PLAIN[1], dict(PLAIN[2])]
            messages[0]["content"] = f"first question {control}"
            messages[2]["content"] = f"{control[1:]} second {control}{control[:-1]} question {control[:-1]}"
            pieces = split_prompt(renderer.render(chat, messages), chat.control_texts)
            assert [piece.text for piece in pieces if piece.is_control] == expected, (name, control)
            text = "".join(piece.text for piece in pieces)
            if "/think" in control:
                continue  # some templates take "/think" out of what users say: it is their switch
            assert messages[0]["content"] in text and messages[2]["content"] in text, (name, control)
