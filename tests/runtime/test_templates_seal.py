"""What a user writes never becomes a control token, and reaches the model letter by letter.

The judge renders by itself, in an environment set up like that of ``transformers``: once the conversation as
it is, whose letters must all come back, and once with the user's text in letters that no control text has,
whose control tokens are the template's own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.messages import Prompt
from runtime.engine.templates.chat import read_messages
from runtime.engine.templates.control_text import ControlFinder
from runtime.engine.templates.dialect import adapt_messages
from runtime.engine.templates.renderer import ChatTemplate, Piece, TemplateRenderer, split_prompt
from runtime.engine.templates.seal import Seal, choose_marks, settle
from runtime.errors import EngineError, TemplateError, TemplateTimeout
from tests.runtime.template_families import FAMILIES, Family, reference_rendering

Conversation = dict[str, Any]
FINDER = ControlFinder(["<s>", "</s>", "<|im_end|>"])


@pytest.fixture(scope="module")
def renderer() -> Iterator[TemplateRenderer]:
    with TemplateRenderer() as renderer:
        yield renderer


def texts(family: Family) -> st.SearchStrategy[str]:
    """Whole control texts, beginnings and ends of them, and what templates look for, next to each other."""
    whole = st.sampled_from(family.control_texts)
    start = st.builds(lambda text, size: text[: 1 + size % len(text)], whole, st.integers(0, 30))
    end = st.builds(lambda text, size: text[size % len(text) :], whole, st.integers(0, 30))
    signs = st.sampled_from([" ", "\n", '"', "\\", "<think>", "</think>", "<", ">", "é", "\ue000", "\\ue001"])
    letters = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=4)
    return st.lists(whole | start | end | signs | letters, max_size=6).map("".join)


def conversations(family: Family) -> st.SearchStrategy[Conversation]:
    """System prompt, turns, and, where the family knows them, a tool, a call of it and its result."""
    text = texts(family)
    system = st.lists(st.builds(lambda content: {"role": "system", "content": content}, text), max_size=1)
    turn = st.tuples(text, text).map(
        lambda pair: [
            {"role": "user", "content": pair[0]},
            {"role": "assistant", "content": pair[1], "reasoning_content": pair[0]},
        ]
    )
    turns = st.lists(turn, max_size=2).map(lambda turns: list(itertools.chain.from_iterable(turns)))
    question = st.builds(lambda content: {"role": "user", "content": content}, text)
    plain = st.builds(lambda first, talk, last: {"messages": [*first, *talk, last]}, system, turns, question)
    schema = st.dictionaries(
        text, st.builds(lambda word: {"type": "string", "enum": [word]}, text), max_size=2
    )
    value = st.recursive(
        text | st.booleans() | st.integers(-9, 9),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
        max_leaves=4,
    )
    arguments = st.dictionaries(text, value, max_size=3)
    return plain | st.builds(with_tools, plain, text, arguments, schema, text) if family.tools else plain


def with_tools(
    talk: Conversation, name: str, arguments: dict[str, Any], schema: dict[str, Any], result: str
) -> Conversation:
    parameters = {"type": "object", "properties": schema, "required": list(schema)}
    function = {"name": f"f{name}", "description": result, "parameters": parameters}
    call = {"name": f"f{name}", "arguments": json.dumps(arguments)}
    history = [
        {"role": "assistant", "content": None, "tool_calls": [{"id": f"id{name}", "function": call}]},
        {"role": "tool", "content": result, "tool_call_id": f"id{name}"},
        {"role": "user", "content": name},
    ]
    return {
        "messages": [*talk["messages"], *history],
        "tools": [{"type": "function", "function": function}],
    }


def shift(value: Any) -> Any:
    """JSON in letters that no control text has, one for one; white space and JSON's signs stay."""
    if isinstance(value, str):
        return "".join(
            char if char in '"\\' or char.isspace() or char < " " else chr(0x20000 + ord(char))
            for char in value
        )
    if isinstance(value, list):
        return [shift(item) for item in value]
    if isinstance(value, dict):
        return {shift(key): shift(item) for key, item in value.items()}
    return value


def harmless_message(message: dict[str, Any]) -> dict[str, Any]:
    calls = [
        {
            "id": shift(call["id"]),
            "type": "function",
            "function": {key: shift(item) for key, item in call["function"].items()},
        }
        for call in message.get("tool_calls", [])
    ]
    words = {key: shift(item) for key, item in message.items() if key not in {"role", "tool_calls"}}
    return {"role": message["role"], **words, **({"tool_calls": calls} if calls else {})}


def harmless_tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    properties = {
        shift(name): {"type": schema["type"], "enum": shift(schema["enum"])}
        for name, schema in function["parameters"]["properties"].items()
    }
    parameters = {
        "type": "object",
        "properties": properties,
        "required": shift(function["parameters"]["required"]),
    }
    words = {"name": shift(function["name"]), "description": shift(function["description"])}
    return {"type": "function", "function": {**words, "parameters": parameters}}


def control_tokens(family: Family, text: str) -> list[str]:
    return [text[start:end] for start, end in ControlFinder(family.control_texts).spans(text)]


def judge(renderer: TemplateRenderer, family: Family, conversation: Conversation) -> Prompt:
    prompt = renderer.render(family.template, conversation["messages"], tools=conversation.get("tools"))
    adapted = adapt_messages(read_messages(conversation["messages"]), renderer.dialect(family.template))
    tools = conversation.get("tools", [])
    expected = reference_rendering(family, adapted, tools=tools)
    untouched = reference_rendering(
        family,
        [harmless_message(message) for message in adapted],
        tools=[harmless_tool(tool) for tool in tools],
    )
    pieces = split_prompt(prompt, family.control_texts)
    assert [piece.text for piece in pieces if piece.is_control] == control_tokens(family, untouched)
    assert "".join(piece.text for piece in pieces) == expected
    if not prompt.protected:
        assert prompt.text == expected
    return prompt


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_user_text_becomes_no_control_token_and_comes_back_letter_by_letter(
    renderer: TemplateRenderer, name: str, data: st.DataObject
) -> None:
    judge(renderer, FAMILIES[name], data.draw(conversations(FAMILIES[name])))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=1_500, deadline=None)
@given(data=st.data())
def test_user_text_becomes_no_control_token_in_ten_thousand_conversations(
    renderer: TemplateRenderer, name: str, data: st.DataObject
) -> None:
    judge(renderer, FAMILIES[name], data.draw(conversations(FAMILIES[name])))


@pytest.mark.parametrize("name", FAMILIES)
def test_text_without_control_tokens_is_rendered_as_transformers_does(
    renderer: TemplateRenderer, name: str
) -> None:
    talk: Conversation = {
        "messages": [
            {"role": "system", "content": "Answer briefly. <b>Be kind</b> & 'quote'."},
            {"role": "user", "content": "  What is 1 < 2?\n"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nTrue"},
            {"role": "user", "content": "Schön \ue000 [INS \U0001f600"},
        ]
    }
    if FAMILIES[name].tools:
        talk = with_tools(
            talk, "x", {"city": "Köln", "n": 1.5}, {"city": {"type": "string", "enum": ["a"]}}, "12 °C"
        )
    assert judge(renderer, FAMILIES[name], talk).protected == {}


def test_a_key_that_a_template_wraps_into_a_tag_stays_text(renderer: TemplateRenderer) -> None:
    talk = with_tools(
        {"messages": [{"role": "user", "content": "x"}]},
        "x",
        {"s": "value", "pad": {"unk": 1}, "city": "Paris"},
        {"s": {"type": "string", "enum": ["s"]}},
        "ok",
    )
    family = FAMILIES["xml"]
    prompt = judge(renderer, family, talk)
    assert Piece("<s>", True) not in split_prompt(prompt, family.control_texts)
    assert "<s>value</s>" in "".join(piece.text for piece in split_prompt(prompt, family.control_texts))


def test_a_pasted_conversation_costs_the_template_none_of_its_logic(renderer: TemplateRenderer) -> None:
    """A talk about control tokens with a thinking model: old thoughts are still left out."""
    family = FAMILIES["thinking"]
    messages = [
        {"role": "user", "content": "What does <|im_end|> mean?"},
        {"role": "assistant", "content": "<think>hm</think>It ends a turn: <|im_end|>"},
        {"role": "user", "content": "Thanks."},
    ]
    prompt = judge(renderer, family, {"messages": messages})
    assert "hm" not in prompt.text
    assert set(prompt.protected.values()) == set("<|im_end|>")


@pytest.mark.parametrize(("ascii_only", "shown"), [(True, "caf\\u00e9"), (False, "café")])
def test_sealed_text_survives_escapes_in_json(
    renderer: TemplateRenderer, ascii_only: bool, shown: str
) -> None:
    source = f"{{{{ messages[0].content | tojson(ensure_ascii={ascii_only}) }}}}<|im_end|>"
    template = ChatTemplate(source, control_texts=("<|im_end|>",))
    prompt = renderer.render(template, [{"role": "user", "content": "café <|im_end|>"}])
    pieces = split_prompt(prompt, template.control_texts)
    assert pieces == [(f'"{shown} <|im_end|>"', False), ("<|im_end|>", True)]


def test_sealed_text_survives_pythons_repr(renderer: TemplateRenderer) -> None:
    source = "{{ messages | map(attribute='content') | list }}<|im_end|>"
    template = ChatTemplate(source, control_texts=("<|im_end|>",))
    prompt = renderer.render(template, [{"role": "user", "content": "a <|im_end|>"}])
    assert split_prompt(prompt, template.control_texts) == [("['a <|im_end|>']", False), ("<|im_end|>", True)]


@pytest.mark.parametrize(
    ("effort", "tokens"), [("high", ["<|high|>"]), ("im_end", []), ("<|high|>", []), ("other", [])]
)
def test_a_variable_may_say_only_what_the_template_says(
    renderer: TemplateRenderer, effort: str, tokens: list[str]
) -> None:
    """``high`` stands quoted in the source, so the template knows it; ``im_end`` would be the caller's."""
    source = (
        "{% if effort == 'high' %}{{ '<|' + effort + '|>' }}{% else %}{{ '<|' + effort + '|>' }}{% endif %}"
    )
    template = ChatTemplate(source, control_texts=("<|high|>", "<|im_end|>"))
    prompt = renderer.render(template, [{"role": "user", "content": "x"}], kwargs={"effort": effort})
    pieces = split_prompt(prompt, template.control_texts)
    assert [piece.text for piece in pieces if piece.is_control] == tokens
    assert "".join(piece.text for piece in pieces) == f"<|{effort}|>"


def test_documents_in_a_variable_are_the_users_text(renderer: TemplateRenderer) -> None:
    each = "{{ d.title }}: {{ d['text'] }}{% for k in d.more %}<{{ k }}>{% endfor %};"
    source = "{% for d in documents %}" + each + "{% endfor %}"
    template = ChatTemplate(source, control_texts=("<s>", "</s>"))
    documents = [{"title": "a</s>", "text": "<s>", "more": {"s": 1}}]
    prompt = renderer.render(template, [{"role": "user", "content": "x"}], kwargs={"documents": documents})
    assert split_prompt(prompt, template.control_texts) == [("a</s>: <s><s>;", False)]


def test_a_template_that_fails_on_sealed_text_is_refused(renderer: TemplateRenderer) -> None:
    source = "{% if messages[0].content != 'yes' %}{{ raise_exception('say yes') }}{% endif %}<s>"
    template = ChatTemplate(source, control_texts=("<s>",))
    with pytest.raises(TemplateError, match="depends on the letters"):
        renderer.render(template, [{"role": "user", "content": "yes"}])


def test_time_is_counted_over_both_renderings(renderer: TemplateRenderer) -> None:
    for_ever = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    question = "messages[0].content | length == 3 and messages[0].content != 'yes'"
    source = f"{{% if {question} %}}{for_ever}{{% endif %}}<s>"
    template = ChatTemplate(source, control_texts=("<s>",))
    assert renderer.render(template, [{"role": "user", "content": "four"}]).text == "<s>"
    with pytest.raises(TemplateTimeout):
        renderer.render(template, [{"role": "user", "content": "yes"}])


def test_a_content_that_is_null_stays_null() -> None:
    seal = Seal(FINDER, choose_marks(FINDER, ""), "", full=True)
    message = {"role": "assistant", "content": None}
    assert seal.message(message) == message


def test_the_words_of_a_schema_stay_and_the_names_in_it_do_not() -> None:
    seal = Seal(FINDER, choose_marks(FINDER, ""), "", full=True)
    schema = {
        "type": ["string", "null"],
        "items": {"type": [{}], "title": "x"},
        "properties": {"type": {"type": "string"}, "properties": {"type": "x", "default": 1}},
        "unknown": [True, None],
    }
    name, default, x = seal.text("type"), "default", seal.text("x")
    assert seal.tool(schema) == {
        "type": ["string", "null"],
        "items": {"type": [{}], "title": x},
        "properties": {name: {"type": "string"}, seal.text("properties"): {"type": x, default: 1}},
        seal.text("unknown"): [True, None],
    }


def test_marks_are_characters_that_no_input_has() -> None:
    marks = choose_marks(FINDER, "\ue000 \ue002 and \\ue003 \\ue004")
    assert not {"\ue000", "\ue002", "\ue003", "\ue004"} & set(marks)
    assert {"<", ">", "/", "s", "A"} <= set(marks.values())
    assert not {" ", '"', "\\", "\n"} & set(marks.values())
    assert choose_marks(ControlFinder([]), "text") == {}


def test_a_control_text_of_white_space_is_guarded_too() -> None:
    finder = ControlFinder(["\n\n", "<s>"])
    marks = choose_marks(finder, "")
    full = Seal(finder, marks, "", full=True).text("a\n\nb c")
    assert finder.spans(full) == []
    assert " " in full


def test_a_vocabulary_with_more_letters_than_marks_is_an_error() -> None:
    with pytest.raises(EngineError, match="at most 6400"):
        choose_marks(ControlFinder([chr(0x4E00 + number) for number in range(6401)]), "")


def test_the_light_rendering_is_taken_only_where_the_full_one_has_the_same_tokens() -> None:
    marks = choose_marks(FINDER, "")
    sealed = Seal(FINDER, marks, "", full=True).text
    assert settle("a<s>b", sealed("a") + "<s>" + sealed("b"), marks, FINDER) == Prompt("a<s>b")
    assert settle("a<s>b", sealed("a<s>b"), marks, FINDER).text == sealed("a<s>b")
    # a template that sorts what it prints, and one that keeps its token back when the user has one
    assert settle("<s>b", sealed("b") + "<s>", marks, FINDER) == Prompt("<s>b")
    assert settle("<s>b</s>", sealed("<s>b") + "</s>", marks, FINDER).text != "<s>b</s>"
