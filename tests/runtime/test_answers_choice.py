"""Required tool calls: each family's grammar makes the demo model write what the family's parser reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.engine.answers.choice import tool_grammar
from runtime.engine.answers.deepseek import DeepSeek
from runtime.engine.answers.families import GENERIC, HARMONY, Family
from runtime.engine.answers.gemma import Gemma
from runtime.engine.answers.hermes import Hermes
from runtime.engine.answers.llama3 import Llama3
from runtime.engine.answers.mistral import Mistral
from runtime.engine.answers.pieces import CallArguments, CallStart, Reasoning
from runtime.engine.answers.qwen_coder import QwenCoder
from runtime.engine.client import Engine
from runtime.engine.config import EngineConfig
from runtime.engine.messages import Prompt, SamplingParams

pytestmark = pytest.mark.model

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
FAMILIES = [
    Family("hermes", Hermes),
    GENERIC,
    Family("qwen-coder", QwenCoder),
    Family("llama3", Llama3),
    Family("mistral", Mistral),
    Family("deepseek", DeepSeek),
    Family("gemma", Gemma),
    HARMONY,
]
PROMPT = Prompt("<|im_start|>user\nThe weather in Rome?<|im_end|>\n<|im_start|>assistant\n")


@pytest.fixture(scope="module")
def engine(demo_path: Path) -> Iterator[Engine]:
    config = EngineConfig(model_paths=(str(demo_path),), context_tokens=1024, slots=2, ubatch_tokens=128)
    with Engine(config) as made:
        made.start()
        yield made


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("thinking", [False, True])
def test_what_the_grammar_lets_through_is_a_call(engine: Engine, family: Family, thinking: bool) -> None:
    if thinking and family is HARMONY:
        pytest.skip("its reasoning is in a channel, not in the prompt")
    controls = engine.info.control_texts
    for seed in range(3):
        grammar = tool_grammar(family, TOOLS, controls, parallel=False, thinking=thinking)
        text, end = engine.submit(
            PROMPT, grammar=grammar, max_tokens=200, sampling=SamplingParams(seed=seed)
        ).result()
        parser = family.parser(TOOLS, thinking=thinking)
        pieces = parser.push(text) + parser.finish()
        starts = [piece for piece in pieces if isinstance(piece, CallStart)]
        if end.reason == "length":
            assert starts or any(isinstance(piece, Reasoning) for piece in pieces)
            continue
        assert len(starts) == 1, text
        arguments = json.loads("".join(p.text for p in pieces if isinstance(p, CallArguments)))
        if starts[0].name == "get_weather" and family.name != "gemma":
            assert set(arguments) == {"city", "days"} and 1 <= arguments["days"] <= 9


def test_one_of_several_tools_can_be_named(engine: Engine) -> None:
    grammar = tool_grammar(
        GENERIC, {"now": TOOLS["now"]}, engine.info.control_texts, parallel=True, thinking=False
    )
    text, _ = engine.submit(PROMPT, grammar=grammar, max_tokens=60, sampling=SamplingParams(seed=1)).result()
    parser = GENERIC.parser({"now": {}})
    starts = [piece for piece in parser.push(text) + parser.finish() if isinstance(piece, CallStart)]
    assert starts and {piece.name for piece in starts} == {"now"}


def test_a_control_token_of_the_vocabulary_is_written_as_one(engine: Engine) -> None:
    """The demo's vocabulary has ``<|im_start|>``: a marker of that name is the token, not its letters."""
    from runtime.engine.messages import Grammar

    grammar = Grammar("lark", 'start: <|im_start|> "x"')
    text, _ = engine.submit(PROMPT, grammar=grammar, shown=("<|im_start|>",), max_tokens=8).result()
    assert text == "<|im_start|>x"
    text, end = engine.submit(PROMPT, grammar=grammar, max_tokens=8).result()
    assert text == "x" and end.usage.output_tokens == 2
