from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from runtime.engine.templates.chat import ChatMessage, FunctionCall, ToolCall, read_messages
from runtime.engine.templates.dialect import Dialect, adapt_messages, adapt_tools, learn_dialect
from runtime.engine.templates.renderer import ChatTemplate, TemplateRenderer
from runtime.errors import InvalidRequest, TemplateError
from tests.runtime.template_families import FAMILIES

LONG_ID = "call_0123456789abcdef01234567"
SYSTEM, DEVELOPER, USER = (
    ChatMessage(role="system", content="S"),
    ChatMessage(role="developer", content="D"),
    ChatMessage(role="user", content="U"),
)
CALL = ChatMessage(
    role="assistant",
    content=None,
    tool_calls=(ToolCall(id=LONG_ID, function=FunctionCall("get_weather", '{"city": "Paris", "days": 2}')),),
)
RESULT = ChatMessage(role="tool", content="sunny", tool_call_id=LONG_ID)
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": True}},
    },
}


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    with TemplateRenderer() as renderer:
        yield renderer


EACH = "{% for m in messages %}BODY{% endfor %}"
CALLS = "{% for c in m.tool_calls or [] %}CALL{% endfor %}"
TEXT_CALLS = CALLS.replace("CALL", "{{ '' + c.function.arguments }}")


@pytest.mark.parametrize(
    ("source", "dialect"),
    [
        (FAMILIES["chatml"].source, Dialect()),
        (FAMILIES["llama"].source, Dialect()),
        (FAMILIES["xml"].source, Dialect()),
        (FAMILIES["mistral"].source, Dialect(short_ids=True)),
        (FAMILIES["thinking"].source, Dialect(tools="refused", arguments="content")),
        (FAMILIES["phi"].source, Dialect(tools="refused", arguments="content", tool_results=False)),
        (
            FAMILIES["gemma"].source,
            Dialect(system=False, tools="refused", arguments="content", tool_results=False),
        ),
        (
            EACH.replace("BODY", "{{ m.role }}{% for p in m.content %}{{ p.text }}{% endfor %}"),
            Dialect(content="parts", tools="refused", arguments="content"),
        ),
        (
            "{{ tools|tojson if tools }}"
            + EACH.replace("BODY", "{{ m.content }}" + TEXT_CALLS),
            Dialect(arguments="text"),
        ),
        (
            "{% for t in tools or [] %}{{ t.function.name + t.function.description }}"
            "{% for p in t.function.parameters.properties.values() %}{{ ': ' + p.description }}{% endfor %}"
            "{% endfor %}"
            + EACH.replace("BODY", "{{ m.content }}" + CALLS.replace("CALL", "{{ c.function }}")),
            Dialect(tools="described"),
        ),
        (
            EACH.replace(
                "BODY",
                "{% if m.content is none %}" + CALLS.replace("CALL", "{{ c.function }}")
                + "{% else %}{{ m.content }}{% endif %}",
            ),
            Dialect(tools="refused", empty_content="null"),
        ),
        (
            EACH.replace(
                "BODY",
                "{% if m.role in ['system', 'developer'] %}! {% endif %}{{ m.content }}{{ m.reasoning }}",
            ),
            Dialect(developer=True, tools="refused", arguments="content", reasoning="reasoning"),
        ),
        ("{{ raise_exception('no') }}", Dialect()),
    ],
)  # fmt: skip
def test_what_a_template_understands_is_found_by_asking_it(
    renderer: TemplateRenderer, source: str, dialect: Dialect
) -> None:
    assert renderer.dialect(ChatTemplate(source, "<s>", "</s>")) == dialect


def test_a_template_that_understands_all_is_asked_four_times() -> None:
    asked = []

    def rendered(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        asked.append(messages)
        return f"{messages}{tools}"

    assert learn_dialect(rendered, "no such role") == Dialect()
    assert len(asked) == 4


def test_a_template_that_understands_nothing_is_asked_fourteen_times_at_most() -> None:
    asked = []

    def rendered(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        asked.append(messages)
        return str(messages[-1]["content"])

    learn_dialect(rendered, "{{ 'developer' }}")
    assert len(asked) <= 14


def test_a_template_without_system_role_gets_it_in_front_of_the_user() -> None:
    dialect = Dialect(system=False)
    assert adapt_messages([SYSTEM, DEVELOPER, USER], dialect) == [{"role": "user", "content": "S\n\nD\n\nU"}]
    assert adapt_messages([USER, SYSTEM], dialect) == [
        {"role": "user", "content": "U"},
        {"role": "user", "content": "S"},
    ]
    parts = Dialect(system=False, content="parts")
    assert adapt_messages([SYSTEM], parts) == [{"role": "user", "content": [{"type": "text", "text": "S"}]}]


def test_a_developer_message_is_a_system_message_unless_the_template_knows_better() -> None:
    assert adapt_messages([DEVELOPER], Dialect())[0]["role"] == "system"
    assert adapt_messages([DEVELOPER], Dialect(developer=True))[0]["role"] == "developer"
    assert adapt_messages([DEVELOPER], Dialect(developer=True, system=False))[0]["role"] == "developer"


def test_a_call_is_an_object_with_a_text_beside_it() -> None:
    [call, result] = adapt_messages([CALL, RESULT], Dialect())
    function = {"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}
    assert call == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": LONG_ID, "type": "function", "function": function}],
    }
    assert result == {"role": "tool", "content": "sunny", "name": "get_weather", "tool_call_id": LONG_ID}


def test_a_call_takes_the_form_that_the_template_reads() -> None:
    [call] = adapt_messages([CALL], Dialect(arguments="text", empty_content="null", content="parts"))
    assert call["content"] is None
    assert call["tool_calls"][0]["function"]["arguments"] == '{"city": "Paris", "days": 2}'


def test_a_call_that_a_template_would_leave_out_goes_into_the_content() -> None:
    spoken = ChatMessage(role="assistant", content="Let me see.", tool_calls=CALL.tool_calls)
    [call] = adapt_messages([spoken], Dialect(arguments="content"))
    assert call["content"] == (
        "Let me see.\n<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}\n'
        "</tool_call>"
    )
    assert "tool_calls" not in call


def test_a_long_id_is_shortened_alike_in_the_call_and_its_result() -> None:
    call, result = adapt_messages([CALL, RESULT], Dialect(short_ids=True))
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    assert len(result["tool_call_id"]) == 9
    kept = ChatMessage(role="tool", content="", tool_call_id="abc123DEF")
    assert adapt_messages([kept], Dialect(short_ids=True))[0]["tool_call_id"] == "abc123DEF"


def test_names_and_thoughts_are_handed_on() -> None:
    message = ChatMessage(role="assistant", content="a", name="bob", reasoning_content="hm")
    assert adapt_messages([message], Dialect(reasoning="thinking")) == [
        {"role": "assistant", "content": "a", "name": "bob", "thinking": "hm"}
    ]


def test_descriptions_are_added_without_moving_what_is_there() -> None:
    [tool] = adapt_tools([TOOL], Dialect(tools="described"))
    function = tool["function"]
    assert function["description"] == ""
    assert function["parameters"]["properties"] == {
        "city": {"type": "string", "description": ""},
        "days": True,
    }
    full = {"type": "function", "function": {"description": "d", "name": "n", "parameters": None}}
    [kept] = adapt_tools([full], Dialect(tools="described"))
    assert list(kept["function"]) == ["description", "name", "parameters"]
    assert adapt_tools([TOOL], Dialect()) == [TOOL]


def test_every_rendering_has_lists_of_its_own() -> None:
    messages = read_messages([{"role": "user", "content": "U"}])
    assert adapt_messages(messages, Dialect()) is not adapt_messages(messages, Dialect())


@pytest.mark.parametrize("name", ["phi", "gemma", "thinking"])
def test_tools_without_a_place_are_refused_and_not_dropped(renderer: TemplateRenderer, name: str) -> None:
    with pytest.raises(TemplateError, match="no place for tool definitions"):
        renderer.render(FAMILIES[name].template, [USER], tools=[TOOL])


def test_results_without_a_place_are_refused_and_not_dropped(renderer: TemplateRenderer) -> None:
    with pytest.raises(TemplateError, match="no place for the results"):
        renderer.render(FAMILIES["phi"].template, [USER, CALL, RESULT])


def test_the_templates_own_refusal_comes_before_ours(renderer: TemplateRenderer) -> None:
    with pytest.raises(TemplateError, match="Roles must alternate"):
        renderer.render(FAMILIES["gemma"].template, [USER, CALL, RESULT])


def test_a_mistral_like_template_takes_openais_history(renderer: TemplateRenderer) -> None:
    text = renderer.render(FAMILIES["mistral"].template, [USER, CALL, RESULT], tools=[TOOL]).text
    assert '"arguments": {"city": "Paris", "days": 2}' in text
    assert '"content": "sunny"' in text


def test_arguments_that_are_no_object_name_their_place(renderer: TemplateRenderer) -> None:
    broken = ToolCall(function=FunctionCall("f", "no json"))
    with pytest.raises(InvalidRequest, match=r"messages\[0\]\.tool_calls\[0\]"):
        adapt_messages([ChatMessage(role="assistant", tool_calls=(broken,))], Dialect())


def test_old_names_for_tools_are_served(renderer: TemplateRenderer) -> None:
    """Firefunction reads ``functions`` and ``datetime``, SmolLM3 ``xml_tools``."""
    source = EACH.replace("BODY", "{{ m.content }}")
    old = ChatTemplate("Functions: " + "{{ functions + '\\n' + datetime }}" + source)
    text = renderer.render(old, [USER], tools=[TOOL]).text
    assert '"name": "get_weather"' in text
    assert "[]" in renderer.render(old, [USER]).text
    smol = ChatTemplate("{% if xml_tools %}{{ xml_tools | tojson }}{% endif %}" + source)
    assert "get_weather" in renderer.render(smol, [USER], tools=[TOOL]).text
    assert renderer.render(smol, [USER]).text == "U"
