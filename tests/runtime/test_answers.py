"""Every family's answers, cut into pieces of every size: what comes out does not depend on the cuts."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.engine.answers.deepseek import DeepSeek
from runtime.engine.answers.families import family_of, opens_reasoning
from runtime.engine.answers.gemma import Gemma
from runtime.engine.answers.harmony import Harmony
from runtime.engine.answers.hermes import Hermes
from runtime.engine.answers.llama3 import Llama3
from runtime.engine.answers.mistral import Mistral
from runtime.engine.answers.parser import Parser
from runtime.engine.answers.pieces import (
    CallArguments,
    CallStart,
    Content,
    Piece,
    Reasoning,
    merged,
)
from runtime.engine.answers.qwen_coder import QwenCoder
from tests.runtime.template_families import CHATML, THINKING

TOOLS: dict[str, Any] = {
    "f": {"properties": {"n": {"type": "integer"}, "s": {"type": "string"}}},
    "g": {},
}


def whole(parser: type[Parser], text: str, **options: Any) -> list[Piece]:
    one = parser(TOOLS, **options)
    return merged(one.push(text) + one.finish())


def in_parts(parser: type[Parser], text: str, rng: random.Random, **options: Any) -> list[Piece]:
    one, pieces, place = parser(TOOLS, **options), [], 0
    while place < len(text):
        end = place + rng.choice((1, 1, 2, 3, 7))
        pieces += one.push(text[place:end])
        place = end
    return merged(pieces + one.finish())


def call(name: str, arguments: str = "{}", identifier: str | None = None) -> list[Piece]:
    return [CallStart(name, identifier), CallArguments(arguments)]


CASES: list[tuple[str, type[Parser], str, list[Piece]]] = [
    (
        "hermes: reasoning, content, two calls, the second with its name last",
        Hermes,
        "<think>\nhm </thi\n</think>\n\nOK.\n"
        '<tool_call>\n{"name": "f", "arguments": {"n": 1, "s": "a}\\"b"}}\n</tool_call>\n'
        '<tool_call>\n{"arguments":{}, "name":"g"}\n</tool_call>',
        [
            Reasoning("hm </thi"),
            Content("OK.\n"),
            *call("f", '{"n": 1, "s": "a}\\"b"}'),
            *call("g"),
        ],
    ),
    (
        "hermes: arguments as a text",
        Hermes,
        '<tool_call>{"name": "f", "arguments": "{\\"n\\": 1}"}</tool_call>',
        call("f", '{"n": 1}'),
    ),
    (
        "hermes: no such tool, and a call that breaks off before its name, are content",
        Hermes,
        'see <tool_call> {"name": "zzz", "arguments": {}}</tool_call> done <tool_call>{"a":',
        [Content('see <tool_call> {"name": "zzz", "arguments": {}}</tool_call> done <tool_call>{"a":')],
    ),
    (
        "hermes: arguments that break off are given as far as they came",
        Hermes,
        '<tool_call>{"name": "f", "arguments": {"n": 1',
        call("f", '{"n": 1'),
    ),
    (
        "qwen-coder: values are typed by the schema",
        QwenCoder,
        "I call.\n<tool_call>\n<function=f>\n<parameter=n>\n12\n</parameter>\n"
        "<parameter=s>\nx\ny <b>\n</parameter>\n</function>\n</tool_call>",
        [Content("I call.\n"), *call("f", '{"n": 12, "s": "x\\ny <b>"}')],
    ),
    (
        "qwen-coder: no parameters, and without the outer tag",
        QwenCoder,
        "<function=g>\n</function>",
        call("g"),
    ),
    (
        "llama3: several, separated by semicolons",
        Llama3,
        '{"name": "f", "parameters": {"n": 2}}; {"name":"g","parameters":{}}',
        [*call("f", '{"n": 2}'), *call("g")],
    ),
    ("llama3: tagged", Llama3, '<|python_tag|>{"name": "f", "parameters": {}}', call("f")),
    ("llama3: by name", Llama3, '<function=f>{"n": 2}</function>', call("f", '{"n": 2}')),
    ("llama3: JSON that is no call", Llama3, '{"some": "json"} text', [Content('{"some": "json"} text')]),
    ("llama3: in the middle of a text", Llama3, 'Hi {"name": "f"}', [Content('Hi {"name": "f"}')]),
    (
        "mistral: a list",
        Mistral,
        'Sure[TOOL_CALLS][{"name": "f", "arguments": {"n": 1}, "id": "abc123def"}, '
        '{"name":"g","arguments":{}}]',
        [Content("Sure"), *call("f", '{"n": 1}'), *call("g")],
    ),
    (
        "mistral: by name, with ids and reasoning",
        Mistral,
        '[THINK]x[/THINK][TOOL_CALLS]f[CALL_ID]abc[ARGS]{"n": 1}[TOOL_CALLS]g[ARGS]{}',
        [Reasoning("x"), *call("f", '{"n": 1}', "abc"), *call("g")],
    ),
    ("mistral: name and object", Mistral, '[TOOL_CALLS]f{"n": 1}', call("f", '{"n": 1}')),
    (
        "deepseek: fenced",
        DeepSeek,
        "<think>a</think>b<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n"
        '```json\n{"n": 1}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n'
        "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [Reasoning("a"), Content("b"), *call("f", '{"n": 1}'), *call("g")],
    ),
    (
        "deepseek: not fenced",
        DeepSeek,
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{"n": 1}<｜tool▁call▁end｜>'
        "<｜tool▁call▁begin｜>g<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        [*call("f", '{"n": 1}'), *call("g")],
    ),
    (
        "gemma: a channel, and values of every kind",
        Gemma,
        "<|channel>thought\nhm\n<channel|>Hi "
        '<|tool_call>call:f{n:12,s:<|"|>a,b}<|"|>,o:{k:[1,true,<|"|>z<|"|>]}}<tool_call|>'
        "<|tool_call>call:g{}<tool_call|>",
        [
            Reasoning("hm"),
            Content("Hi "),
            *call("f", '{"n": 12, "s": "a,b}", "o": {"k": [1, true, "z"]}}'),
            *call("g"),
        ],
    ),
    (
        "gemma: what only looks like a number, and texts without marks",
        Gemma,
        "<|tool_call>call:f{zip:02134,n:-0,x:1e3,v:1.2.3,w:+1,t:true story}<tool_call|>",
        call("f", '{"zip": "02134", "n": 0, "x": 1000.0, "v": "1.2.3", "w": "+1", "t": "true story"}'),
    ),
    (
        "harmony: analysis and a call",
        Harmony,
        "<|channel|>analysis<|message|>think<|end|><|start|>assistant"
        '<|channel|>commentary to=functions.f <|constrain|>json<|message|>{"n":1}',
        [Reasoning("think"), *call("f", '{"n":1}')],
    ),
    (
        "harmony: the recipient in the role",
        Harmony,
        ' to=functions.f<|channel|>commentary json<|message|>{"n": 3}<|call|>',
        call("f", '{"n": 3}'),
    ),
    (
        "harmony: analysis and the answer",
        Harmony,
        "<|channel|>analysis<|message|>think<|end|><|start|>assistant<|channel|>final<|message|>Hello!",
        [Reasoning("think"), Content("Hello!")],
    ),
]


@pytest.mark.parametrize(("name", "parser", "text", "expected"), CASES, ids=[case[0] for case in CASES])
def test_an_answer_is_taken_apart_however_it_is_cut(
    name: str, parser: type[Parser], text: str, expected: list[Piece]
) -> None:
    assert whole(parser, text) == expected
    rng = random.Random(name)
    for _ in range(100):
        assert in_parts(parser, text, rng) == expected


@pytest.mark.parametrize("parser", [Hermes, QwenCoder, Llama3, Mistral, DeepSeek, Gemma, Harmony])
class TestEvery:
    def test_without_tools_nothing_is_a_call(self, parser: type[Parser]) -> None:
        for _, other, text, _ in CASES:
            if other is parser and parser is not Harmony:
                one = parser({})
                pieces = one.push(text) + one.finish()
                assert not any(isinstance(piece, CallStart) for piece in pieces)

    @given(text=st.text(alphabet='<>|[]{}":,tol_caOLsCALSf\n ', max_size=60))
    @settings(max_examples=150, deadline=None)
    def test_any_text_ends_and_is_the_same_in_parts(self, parser: type[Parser], text: str) -> None:
        assert in_parts(parser, text, random.Random(text)) == whole(parser, text)

    @given(text=st.text(alphabet="abc \n.!", min_size=1, max_size=60))
    @settings(max_examples=50, deadline=None)
    def test_plain_text_is_content(self, parser: type[Parser], text: str) -> None:
        said = "".join(piece.text for piece in whole(parser, text) if isinstance(piece, Content))
        assert said.strip() == text.strip()


def test_an_answer_may_begin_inside_its_reasoning() -> None:
    assert whole(Hermes, "so\n</think>\n\nYes", thinking=True) == [Reasoning("so"), Content("Yes")]
    assert whole(Hermes, "never ends", thinking=True) == [Reasoning("never ends")]


def test_text_comes_as_soon_as_it_is_certain() -> None:
    one = Hermes(TOOLS)
    assert one.push("Hello <") == [Content("Hello ")]
    assert one.push("b>") == [Content("<b>")]
    one.push('<tool_call>{"name": "f", "arguments": ')
    assert one.push('{"n": 1, ') == [CallStart("f"), CallArguments('{"n": 1, ')]
    assert one.push('"s": "a') == [CallArguments('"s": "a')]


def test_a_long_answer_costs_no_more_a_character() -> None:
    one = Hermes(TOOLS)
    pieces = [piece for _ in range(20_000) for piece in one.push("word ")]
    assert sum(len(piece.text) for piece in pieces if isinstance(piece, Content)) == 100_000


class TestFamilies:
    @pytest.mark.parametrize(
        ("source", "controls", "knows", "name"),
        [
            ("x<tool_call>x", (), True, "hermes"),
            ("<tool_call>\n<function=name>", (), True, "qwen-coder"),
            ("[TOOL_CALLS]", (), True, "mistral"),
            ("<｜tool▁sep｜>", (), True, "deepseek"),
            ("<|tool_call>call:", (), True, "gemma"),
            ("<|channel|>analysis<|message|>", (), False, "harmony"),
            ("plain", ("<|python_tag|>",), True, "llama3"),
            ("prints tools in its own way", (), True, "generic"),
            ("x<tool_call>x", (), False, "generic"),
        ],
    )
    def test_a_template_says_which_it_is(
        self, source: str, controls: tuple[str, ...], knows: bool, name: str
    ) -> None:
        assert family_of(source, controls, knows_tools=knows).name == name

    def test_our_templates_are_known(self) -> None:
        assert family_of(CHATML.source, CHATML.control_texts, knows_tools=True).name == "hermes"
        family = family_of(THINKING.source, THINKING.control_texts, knows_tools=False)
        assert opens_reasoning("<|im_start|>assistant\n<think>\n", family)
        assert not opens_reasoning("<|im_start|>assistant\n", family)


def test_arguments_stay_valid_json() -> None:
    for _, parser, text, _ in CASES:
        pieces = whole(parser, text)
        for piece in pieces:
            if isinstance(piece, CallArguments) and piece.text != '{"n": 1':
                json.loads(piece.text)
