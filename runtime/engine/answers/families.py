"""Which family a model's answers belong to: what its template writes, it was trained to write."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from runtime.engine.answers.deepseek import DeepSeek
from runtime.engine.answers.gemma import Gemma
from runtime.engine.answers.harmony import Harmony
from runtime.engine.answers.hermes import Hermes
from runtime.engine.answers.llama3 import Llama3
from runtime.engine.answers.mistral import Mistral
from runtime.engine.answers.parser import Parser
from runtime.engine.answers.qwen_coder import QwenCoder


@dataclass(frozen=True, slots=True)
class Family:
    """``taught``: the template tells the model of its tools; else :mod:`instructions` does. ``reasons``: the
    template knows of reasoning, so that an answer may begin with it."""

    name: str
    parser: type[Parser]
    taught: bool = True
    reasons: bool = False


HARMONY = Family("harmony", Harmony, reasons=True)
GENERIC = Family("generic", Hermes, taught=False)
_MARKED = (
    ("<｜tool▁sep｜>", Family("deepseek", DeepSeek)),
    ("[TOOL_CALLS]", Family("mistral", Mistral)),
    ("<|tool_call>call:", Family("gemma", Gemma)),
    ("<start_function_call>", Family("gemma", Gemma)),
    ("<function=", Family("qwen-coder", QwenCoder)),
    ("<tool_call>", Family("hermes", Hermes)),
)


def family_of(source: str, control_texts: Collection[str], *, knows_tools: bool) -> Family:
    """The family of a model by its chat template and control tokens.

    ``knows_tools``: the template prints tool definitions. One that prints them in a way that no family here
    reads is told of its tools by us instead.
    """
    if "<|channel|>" in source and "<|message|>" in source:
        return HARMONY
    family = _by_marks(source, control_texts, knows_tools)
    return replace(family, reasons=family.parser.thoughts[0] in source)


def _by_marks(source: str, control_texts: Collection[str], knows_tools: bool) -> Family:
    if not knows_tools:
        return GENERIC
    for mark, family in _MARKED:
        if mark in source:
            return family
    if "<|python_tag|>" in control_texts or ('"parameters"' in source and "Environment: ipython" in source):
        return Family("llama3", Llama3)
    return GENERIC


def opens_reasoning(prompt: str, family: Family) -> bool:
    """Whether a rendered prompt ends inside the reasoning, so that the answer begins there."""
    start, _ = family.parser.thoughts
    return prompt.rstrip().endswith(start)
