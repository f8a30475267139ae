"""Required calls and formats: each family's grammar takes what the family writes, and nothing else; what it
takes, the family's parser reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import llguidance
import pytest

from runtime.engine.answers.choice import format_grammar, tool_grammar
from runtime.engine.answers.deepseek import DeepSeek
from runtime.engine.answers.families import GENERIC, HARMONY, Family
from runtime.engine.answers.gemma import Gemma
from runtime.engine.answers.hermes import Hermes
from runtime.engine.answers.llama3 import Llama3
from runtime.engine.answers.mistral import Mistral
from runtime.engine.answers.pieces import CallArguments, CallStart, Content, Reasoning
from runtime.engine.answers.qwen_coder import QwenCoder
from runtime.engine.client import Engine
from runtime.engine.config import EngineConfig
from runtime.engine.grammar import schema_grammar, special_name
from runtime.engine.messages import Grammar, Prompt, SamplingParams
from runtime.errors import InvalidRequest

TOOLS: dict[str, Any] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
    "now": {"type": "object", "properties": {}, "additionalProperties": False},
}
HERMES = Family("hermes", Hermes)
MISTRAL = Family("mistral", Mistral)
GEMMA = Family("gemma", Gemma)
CODER = Family("qwen-coder", QwenCoder)
ARGUMENTS = '{"city": "Rome", "days": 3}'
CALLS: list[tuple[Family, str]] = [
    (HERMES, '<tool_call>\n{"name": "get_weather", "arguments": ' + ARGUMENTS + "}\n</tool_call>"),
    (GENERIC, '<tool_call>\n{"name": "get_weather", "arguments": ' + ARGUMENTS + "}\n</tool_call>"),
    (
        CODER,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n"
        "<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
    ),
    (Family("llama3", Llama3), '{"name": "get_weather", "parameters": ' + ARGUMENTS + "}"),
    (MISTRAL, "[TOOL_CALLS]get_weather[ARGS]" + ARGUMENTS),
    (
        Family("deepseek", DeepSeek),
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        + ARGUMENTS
        + "\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (GEMMA, '<|tool_call>call:get_weather{city:<|"|>Rome<|"|>,days:3}<tool_call|>'),
    (HARMONY, "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>" + ARGUMENTS),
]
IDS = [family.name for family, _ in CALLS]


class Check:
    """Whether a grammar takes texts, over a vocabulary of bytes and control tokens."""

    def __init__(self, grammar: Grammar, controls: tuple[str, ...]) -> None:
        self._controls = {text: 256 + at for at, text in enumerate(controls)}
        end = 256 + len(controls)
        tokenizer = llguidance.LLTokenizer.from_tiktoken(  # type: ignore[attr-defined]
            encoder={bytes([byte]): byte for byte in range(256)},
            special_tokens={special_name(text): at for text, at in self._controls.items()} | {"<END>": end},
            pattern=".",
            eos_token=end,
            n_vocab=end + 1,
        )
        source = (
            llguidance.LLMatcher.grammar_from_json_schema(grammar.source)
            if grammar.kind == "json_schema"
            else llguidance.LLMatcher.grammar_from_lark(grammar.source)
        )
        self._matcher = llguidance.LLMatcher(tokenizer, source, log_level=0)
        assert not self._matcher.is_error(), self._matcher.get_error()

    def takes(self, text: str) -> bool:
        """All of it, as a whole answer."""
        matcher = self._matcher.deep_copy()
        tokens: list[int] = []
        pattern = "|".join(map(re.escape, self._controls)) or "(?!)"
        for part in re.split(f"({pattern})", text):
            tokens += [self._controls[part]] if part in self._controls else part.encode()
        return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


@pytest.mark.parametrize(("family", "text"), CALLS, ids=IDS)
class TestCalls:
    @pytest.mark.parametrize("with_controls", [True, False])
    def test_the_familys_own_way_is_taken_and_read(
        self, family: Family, text: str, with_controls: bool
    ) -> None:
        if not with_controls and family is not HERMES and family is not GENERIC:
            pytest.skip("its markers are control tokens")
        controls = tuple(family.parser.shown) if with_controls else ()
        check = Check(tool_grammar(family, TOOLS, controls, parallel=False, thinking=False), controls)
        assert check.takes(text)
        pieces = family.parser(TOOLS).push(text)
        assert [piece.name for piece in pieces if isinstance(piece, CallStart)] == ["get_weather"]
        said = "".join(piece.text for piece in pieces if isinstance(piece, CallArguments))
        assert json.loads(said) == json.loads(ARGUMENTS)

    def test_another_tool_wrong_arguments_and_plain_text_are_not(self, family: Family, text: str) -> None:
        controls = tuple(family.parser.shown)
        check = Check(tool_grammar(family, TOOLS, controls, parallel=False, thinking=False), controls)
        assert not check.takes(text.replace("get_weather", "get_wether"))
        assert not check.takes("Sunny.") and not check.takes("") and not check.takes(text[:-1])
        assert not check.takes(text.replace("3", "30"))
        assert not check.takes(" \n" * 20 + text)

    def test_only_the_tools_that_were_chosen(self, family: Family, text: str) -> None:
        controls = tuple(family.parser.shown)
        chosen = {"now": TOOLS["now"]}
        check = Check(tool_grammar(family, chosen, controls, parallel=True, thinking=False), controls)
        assert not check.takes(text)

    def test_reasoning_that_the_prompt_opened_comes_first(self, family: Family, text: str) -> None:
        if family is HARMONY:
            pytest.skip("its reasoning is a message of its own")
        controls = tuple(family.parser.shown)
        check = Check(tool_grammar(family, TOOLS, controls, parallel=False, thinking=True), controls)
        end = family.parser.thoughts[1]
        assert check.takes(f"Rome, so\nI call it.{end}{text}") and check.takes(f"Rome.{end}\n\n{text}")
        assert not check.takes(text)
        pieces = family.parser(TOOLS, thinking=True).push(f"Rome.{end}\n\n{text}")
        assert pieces[0] == Reasoning("Rome.") and isinstance(pieces[1], CallStart)

    def test_a_model_that_reasons_may_do_so_and_others_may_not(self, family: Family, text: str) -> None:
        start, end = family.parser.thoughts
        if family is HARMONY:
            start, end = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant"
        controls = tuple(family.parser.shown)

        def check(reasons: bool) -> Check:
            chosen = family if family is HARMONY else replace(family, reasons=reasons)
            return Check(tool_grammar(chosen, TOOLS, controls, parallel=False, thinking=False), controls)

        assert check(True).takes(text) and check(True).takes(f"{start}Rome.{end}{text}")
        assert check(False).takes(f"{start}Rome.{end}{text}") is (family is HARMONY)


class TestParallel:
    @pytest.mark.parametrize("family", [HERMES, MISTRAL, GEMMA], ids=lambda family: family.name)
    def test_several_calls_where_that_is_allowed(self, family: Family) -> None:
        text = next(text for each, text in CALLS if each is family)
        controls = tuple(family.parser.shown)
        several = text + ("\n" if family is HERMES else "") + text
        for parallel in (True, False):
            grammar = tool_grammar(family, TOOLS, controls, parallel=parallel, thinking=False)
            assert Check(grammar, controls).takes(several) is parallel

    def test_the_old_list_of_mistral(self) -> None:
        controls = ("[TOOL_CALLS]",)
        one = '{"name": "now", "arguments": {}}'
        for parallel in (True, False):
            grammar = tool_grammar(MISTRAL, TOOLS, controls, parallel=parallel, thinking=False)
            check = Check(grammar, controls)
            assert check.takes(f"[TOOL_CALLS][{one}]") and not check.takes("[TOOL_CALLS][]")
            assert check.takes(f"[TOOL_CALLS][{one}, {one}]") is parallel


TEXT = '<|"|>'
"""Gemma's mark around texts; ``"`` stands for it below."""
GEMMA_CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("no properties", {"type": "object"}, ["{}", '{a:"b",c:[1,{d:null}]}'], ["{", "{a}"]),
    (
        "some have to be there, others may",
        {"properties": {"b": {"type": "string"}, "a": {"type": "null"}, "c": {}}, "required": ["b"]},
        ['{b:"x"}', '{b:"x",a:null}', '{b:"x",a:null,c:[true]}', '{b:"x",c:{}}'],
        ["{}", "{a:null}", '{b:"x",d:1}', '{b:"x",b:"y"}', '{b:"x",}', "{b:1}"],
    ),
    (
        "all may",
        {"properties": {key: {"type": "boolean"} for key in "abc"}},
        ["{}", "{a:true}", "{c:false}", "{a:true,c:true}", "{b:true,c:true}", "{a:true,b:true,c:true}"],
        ["{,a:true}", "{a:true,}", "{a:true,a:true}", "{d:true}", "{a:1}"],
    ),
    (
        "numbers",
        {"properties": {"n": {"type": "integer", "minimum": 1, "maximum": 12}, "x": {"type": "number"}},
         "required": ["n", "x"]},
        ["{n:12,x:-0.5}", "{n:1,x:3}"],
        ["{n:13,x:1}", "{n:1.5,x:1}", '{n:1,x:"1"}'],
    ),
    (
        "chosen values",
        {"properties": {"v": {"enum": ["a b", "", 3, None, [1, "z"], {"k": True}]}}, "required": ["v"]},
        ['{v:"a b"}', '{v:""}', "{v:3}", "{v:null}", '{v:[1,"z"]}', "{v:{k:true}}"],
        ['{v:"a"}', "{v:4}", '{v:"3"}'],
    ),
    (
        "texts",
        {"properties": {"d": {"type": "string", "pattern": "^[0-9]{4}/[0-9]{2}$"},
                        "e": {"type": "string", "pattern": "x+", "maxLength": 3}}, "required": ["d", "e"]},
        ['{d:"2024/05",e:"x"}', '{d:"2024/05",e:"axb"}'],
        ['{d:"2024/5",e:"x"}', '{d:"2024/05",e:"abc"}', '{d:"2024/05",e:"xxxx"}'],
    ),
    (
        "lists",
        {"properties": {"l": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}},
         "required": ["l"]},
        ["{l:[1,2]}", "{l:[1,2,3]}"],
        ["{l:[1]}", "{l:[1,2,3,4]}", "{l:[]}", '{l:[1,"2"]}'],
    ),
    (
        "alternatives, also with what both have",
        {"properties": {"v": {"anyOf": [{"type": "string"}, {"type": ["integer", "null"]}]}},
         "allOf": [{"required": ["v"]}, {"properties": {"w": {"const": 1}}}],
         "oneOf": [{"required": ["w"]}, {"properties": {"u": {"type": "null"}}, "required": ["u"]}]},
        ['{v:"x",w:1}', "{v:3,w:1}", "{u:null,v:null}"],
        ["{v:true,w:1}", "{v:1}", "{v:1,w:2}"],
    ),
    (
        "a tree",
        {"$defs": {"node": {"type": "object", "properties": {
            "name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["name"]}}, "properties": {"root": {"$ref": "#/$defs/node"}}, "required": ["root"]},
        ['{root:{name:"a",children:[{name:"b",children:[]}]}}'],
        ['{root:{name:"a",children:[{children:[]}]}}', "{}"],
    ),
    (
        "names of ones own",
        {"additionalProperties": {"type": "integer"}},
        ["{}", "{a:1,b_2:2}"],
        ['{a:"x"}'],
    ),
]  # fmt: skip


@pytest.mark.parametrize("control", [True, False], ids=["marks", "spelled"])
@pytest.mark.parametrize(
    ("schema", "right", "wrong"), [case[1:] for case in GEMMA_CASES], ids=[case[0] for case in GEMMA_CASES]
)
def test_gemmas_notation_follows_the_schema(
    schema: dict[str, Any], right: list[str], wrong: list[str], control: bool
) -> None:
    """As marks that are control tokens, and as texts; what it takes is read as something valid."""
    opening, mark, closing = (
        ("<|tool_call>", TEXT, "<tool_call|>")
        if control
        else ("<start_function_call>", "<escape>", "<end_function_call>")
    )
    controls = (opening, mark, closing) if control else ()
    check = Check(tool_grammar(GEMMA, {"f": schema}, controls, parallel=False, thinking=False), controls)
    valid = jsonschema.Draft202012Validator({"type": "object", **schema})
    for arguments, good in [*((each, True) for each in right), *((each, False) for each in wrong)]:
        text = f"{opening}call:f{arguments.replace(chr(34), mark)}{closing}"
        assert check.takes(text) is good, arguments
        if good:
            pieces = Gemma({"f": schema}).push(text)
            said = "".join(piece.text for piece in pieces if isinstance(piece, CallArguments))
            assert valid.is_valid(json.loads(said)), said


def test_a_choice_of_values_of_another_type_is_refused() -> None:
    schema = {"properties": {"n": {"type": "integer", "enum": ["1", "2"]}}}
    with pytest.raises(InvalidRequest, match="integer"):
        tool_grammar(GEMMA, {"f": schema}, (), parallel=False, thinking=False)
    mixed = {
        "properties": {"n": {"type": ["integer", "null"], "enum": ["1", 2, None, True]}},
        "required": ["n"],
    }
    check = Check(tool_grammar(GEMMA, {"f": mixed}, (), parallel=False, thinking=False), ())
    opening, closing = "<start_function_call>call:f{n:", "}<end_function_call>"
    takes = [value for value in ("1", "2", "null", "true") if check.takes(f"{opening}{value}{closing}")]
    assert takes == ["2", "null"]


def test_alternatives_of_alternatives_are_bounded() -> None:
    bomb: dict[str, Any] = {"type": "null"}
    for _ in range(12):
        bomb = {"properties": {"a": bomb}, "anyOf": [{"required": ["a"]}] * 4}
    with pytest.raises(InvalidRequest, match="alternatives"):
        tool_grammar(GEMMA, {"f": bomb}, (), parallel=False, thinking=False)


class TestFormats:
    SCHEMA = schema_grammar({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})

    def test_a_model_that_does_not_reason_writes_nothing_else(self) -> None:
        assert format_grammar(HERMES, self.SCHEMA, (), thinking=False) is self.SCHEMA

    def test_reasoning_comes_before_it(self) -> None:
        check = Check(format_grammar(HERMES, self.SCHEMA, (), thinking=True), ())
        assert check.takes('hm</think>\n\n{"a": 1}') and not check.takes('{"a": 1}')
        check = Check(format_grammar(replace(HERMES, reasons=True), self.SCHEMA, (), thinking=False), ())
        assert check.takes('<think>hm</think>\n\n{"a": 1}') and check.takes('{"a": 1}')

    def test_a_pattern_too(self) -> None:
        check = Check(format_grammar(HERMES, Grammar("regex", "[0-9]/[0-9]"), (), thinking=True), ())
        assert check.takes("hm</think>1/2") and not check.takes("hm</think>12")

    def test_harmony_writes_it_in_its_last_channel(self) -> None:
        controls = tuple(HARMONY.parser.shown)
        check = Check(format_grammar(HARMONY, self.SCHEMA, controls, thinking=False), controls)
        final = '<|channel|>final<|message|>{"a": 1}'
        assert check.takes(final) and not check.takes('{"a": 1}')
        text = f"<|channel|>analysis<|message|>hm<|end|><|start|>assistant{final}"
        assert check.takes(text)
        assert HARMONY.parser({}).push(text) == [Reasoning("hm"), Content('{"a": 1}')]

    def test_rules_of_ones_own_cannot_be_put_behind_reasoning(self) -> None:
        grammar = Grammar("gbnf", 'root ::= "yes"')
        assert format_grammar(HERMES, grammar, (), thinking=False) is grammar
        for family, thinking in ((HERMES, True), (HARMONY, False)):
            with pytest.raises(InvalidRequest, match="reasons first"):
                format_grammar(family, grammar, (), thinking=thinking)


PROMPT = Prompt("<|im_start|>user\nThe weather in Rome?<|im_end|>\n<|im_start|>assistant\n")


@pytest.fixture(scope="module")
def engine(demo_path: Path) -> Iterator[Engine]:
    config = EngineConfig(model_paths=(str(demo_path),), context_tokens=512, slots=1, ubatch_tokens=128)
    with Engine(config) as made:
        made.start()
        yield made


@pytest.mark.model
@pytest.mark.parametrize(
    "family", [HERMES, GEMMA, Family("qwen-coder", QwenCoder)], ids=lambda each: each.name
)
def test_the_model_is_held_to_a_call(engine: Engine, family: Family) -> None:
    tools = {"get_weather": TOOLS["get_weather"]}
    grammar = tool_grammar(family, tools, engine.info.control_texts, parallel=False, thinking=False)
    sampling = SamplingParams(seed=1)
    text, _ = engine.submit(PROMPT, grammar=grammar, max_tokens=60, sampling=sampling).result()
    starts = [piece for piece in family.parser(tools).push(text) if isinstance(piece, CallStart)]
    assert starts == [CallStart("get_weather")], text


@pytest.mark.model
def test_a_control_token_of_the_vocabulary_is_written_as_one(engine: Engine) -> None:
    """The demo's vocabulary has ``<|im_start|>``: a marker of that name is the token, not its letters."""
    grammar = Grammar("lark", 'start: <|im_start|> "x"')
    text, _ = engine.submit(PROMPT, grammar=grammar, shown=("<|im_start|>",), max_tokens=8).result()
    assert text == "<|im_start|>x"
    text, end = engine.submit(PROMPT, grammar=grammar, max_tokens=8).result()
    assert text == "x" and end.usage.output_tokens == 2
