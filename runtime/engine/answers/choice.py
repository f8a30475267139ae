"""Grammars for answers that have to call a tool, and for those of a format.

Each is in llguidance's Lark: rules of a family's own markers around JSON schemas. A marker that is a control
token of the vocabulary is written as such, any other as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from runtime.engine.answers.deepseek import BEGIN, CALL, CALL_END, END, SEPARATOR
from runtime.engine.answers.families import HARMONY, Family
from runtime.engine.answers.gemma_arguments import GemmaArguments
from runtime.engine.answers.lark import escaped, quoted
from runtime.engine.answers.qwen_coder import kinds_of
from runtime.engine.grammar import schema_grammar, special_name
from runtime.engine.messages import Grammar
from runtime.errors import InvalidRequest

ANY_OBJECT = {"type": "object"}
ANY_TEXT = "TEXT: /(.|\\n)*/"
"""Up to the next control token: no pattern crosses one."""


def tool_grammar(
    family: Family,
    tools: Mapping[str, Any],
    control_texts: Collection[str],
    *,
    parallel: bool,
    thinking: bool,
) -> Grammar:
    """The grammar of one call of ``tools`` (name -> schema of its arguments), or of several with
    ``parallel``.

    ``thinking``: the prompt has opened the reasoning, which ends before the call begins. Raises
    InvalidRequest for a schema that cannot be compiled.
    """
    writer = _Writer(control_texts, {name: _schema(name, schema) for name, schema in tools.items()})
    body = getattr(writer, family.name.replace("-", "_"))(parallel)
    return writer.grammar(family, body, thinking)


def format_grammar(
    family: Family, grammar: Grammar, control_texts: Collection[str], *, thinking: bool
) -> Grammar:
    """The grammar of an answer's content: reasoning may stand before it, where a model reasons.

    Raises InvalidRequest for a grammar of rules where the reasoning cannot be kept out.
    """
    if not (thinking or family.reasons):
        return grammar
    writer = _Writer(control_texts, {})
    match grammar.kind:
        case "json_schema":
            body = f"%json {grammar.source}"
        case "regex":
            writer.rules.append("BODY: /" + grammar.source.replace("/", "\\/") + "/")
            body = "BODY"
        case _ if thinking or family is HARMONY:
            raise InvalidRequest(
                "a grammar cannot be used while the model reasons first; switch that off, as with "
                'chat_template_kwargs {"enable_thinking": false}, or give a JSON schema',
                field="grammar",
            )
        case _:
            return grammar
    writer.rules.append(f"body: {body}")
    return writer.grammar(family, writer.final() if family is HARMONY else "body", thinking)


class _Writer:
    """Rules of one grammar; a method a family gives the right side of ``start``."""

    def __init__(self, control_texts: Collection[str], tools: dict[str, Any]) -> None:
        self._control_texts = control_texts
        self._controls = re.compile("|".join(map(re.escape, sorted(control_texts, key=len, reverse=True))))
        self._tools = tools
        self.rules: list[str] = []

    def grammar(self, family: Family, body: str, thinking: bool) -> Grammar:
        """The whole grammar of an answer: ``body``, behind the reasoning where there is any."""
        if family is HARMONY:
            first = self._analysis()
        elif thinking or family.reasons:
            first = self._thought(*family.parser.thoughts, opened=thinking)
        else:
            first = ""
        return Grammar("lark", "\n".join([f"start: {first}{body}", *dict.fromkeys(self.rules)]))

    def hermes(self, parallel: bool) -> str:
        return self._blocks("<tool_call>", "arguments", "</tool_call>", parallel)

    generic = hermes

    def llama3(self, parallel: bool) -> str:
        self.rules.append(f"call: %json {self._objects('parameters')}")
        return 'call (";" call)*' if parallel else "call"

    def mistral(self, parallel: bool) -> str:
        mark = self._mark("[TOOL_CALLS]")
        if "[ARGS]" in self._control_texts:
            calls = self._named(lambda name: self._mark(f"[TOOL_CALLS]{name}[ARGS]"), "")
            return f"({calls})+" if parallel else f"({calls})"
        least = {"minItems": 1} if parallel else {"minItems": 1, "maxItems": 1}
        schema = {"type": "array", "items": json.loads(self._objects("arguments")), **least}
        self.rules.append(f"calls: %json {json.dumps(schema)}")
        return f"{mark} calls"

    def deepseek(self, parallel: bool) -> str:
        calls = self._named(
            lambda name: self._mark(f"{CALL}function{SEPARATOR}{name}\n```json\n"),
            self._mark(f"\n```{CALL_END}"),
        )
        return f"{self._mark(BEGIN)} ({calls}){'+' if parallel else ''} {self._mark(END)}"

    def gemma(self, parallel: bool) -> str:
        gemma4 = "<|tool_call>" in self._control_texts
        opening, closing = ("<|tool_call>", "<tool_call|>") if gemma4 else (
            "<start_function_call>",
            "<end_function_call>",
        )  # fmt: skip
        quote = '<|"|>' if gemma4 else "<escape>"
        self._up_to("string", quote)
        calls, spelled = [], None if quote in self._control_texts else quote
        for index, (name, schema) in enumerate(self._tools.items()):
            arguments = GemmaArguments(f"a{index}", schema, self._mark(quote), spelled=spelled)
            calls.append(f"{quoted(f'call:{name}')} {arguments.expression(schema)}")
            self.rules += arguments.rules
        self.rules += [
            f"call: {self._mark(opening)} ({' | '.join(calls)}) {self._mark(closing)}",
            'map: "{" (pair ("," pair)*)? "}"',
            'pair: KEY ":" value',
            f'value: map | "[" (value ("," value)*)? "]" | {self._mark(quote)} string | NUMBER | WORD',
            'WORD: "true" | "false" | "null"',
            "KEY: /[A-Za-z_][A-Za-z0-9_.-]*/",
            "NUMBER: /-?(0|[1-9][0-9]*)(\\.[0-9]+)?/",
        ]
        return "call+" if parallel else "call"

    def qwen_coder(self, parallel: bool) -> str:
        calls = []
        for index, (name, schema) in enumerate(self._tools.items()):
            required = set(schema.get("required") or ())
            parts = []
            for number, (key, part) in enumerate((schema.get("properties") or {}).items()):
                rule = f"parameter_{index}_{number}"
                opening, closing = quoted(f"<parameter={key}>\n"), "\n</parameter>\n"
                if isinstance(part, dict) and (kinds := kinds_of(part)) and "string" not in kinds:
                    self.rules.append(f"{rule}: {opening} %json {_json(part)} {quoted(closing)}")
                else:
                    self._up_to("value", closing)
                    self.rules.append(f"{rule}: {opening} value")
                parts.append(rule if key in required else f"{rule}?")
            calls.append(
                " ".join(
                    [
                        self._mark(f"<tool_call>\n<function={name}>\n"),
                        *parts,
                        self._mark("</function>\n</tool_call>"),
                    ]
                )
            )
        self.rules.append(f"call: {' | '.join(calls)}")
        return f"call ({quoted(chr(10))} call)*" if parallel else "call"

    def harmony(self, parallel: bool) -> str:
        calls = self._named(
            lambda name: self._mark(
                f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>"
            ),
            "",
        )
        return f"({calls})"

    def final(self) -> str:
        """Harmony's channel of what the person sees."""
        return f"{self._mark('<|channel|>final<|message|>')} body"

    def _analysis(self) -> str:
        """Harmony's reasoning: a message of its own."""
        opening = self._mark("<|channel|>analysis<|message|>")
        self._up_to("thinking", "<|end|><|start|>assistant")
        self.rules.append(f"thought: {opening} thinking")
        return "thought? "

    def _thought(self, start: str, end: str, *, opened: bool) -> str:
        """Reasoning between its marks; ``opened``: the first stands in the prompt."""
        first = "" if opened else f"{self._mark(start)} "
        self._up_to("thinking", end)
        self.rules += [f"thought: {first}thinking gap", "gap: /\\n{0,2}/"]
        return "thought " if opened else "thought? "

    def _up_to(self, rule: str, end: str) -> None:
        """A rule for any text with the mark that ends it: a pattern finds it, or a control token is it."""
        if self._control_texts and self._controls.search(end):
            self.rules += [f"{rule}: TEXT {self._mark(end)}", ANY_TEXT]
        else:
            self.rules.append(f"{rule}[lazy]: /(.|\\n)*{escaped(end)}/")

    def _blocks(self, opening: str, key: str, closing: str, parallel: bool) -> str:
        before, after = self._mark(f"{opening}\n"), self._mark(f"\n{closing}")
        self.rules.append(f"call: {before} %json {self._objects(key)} {after}")
        return f"call ({quoted(chr(10))} call)*" if parallel else "call"

    def _objects(self, key: str) -> str:
        """The schema of one call as an object."""
        options = [
            {
                "type": "object",
                "properties": {"name": {"const": name}, key: schema},
                "required": ["name", key],
                "additionalProperties": False,
            }
            for name, schema in self._tools.items()
        ]
        return _json(options[0] if len(options) == 1 else {"anyOf": options})

    def _named(self, opening: Any, closing: str) -> str:
        for index, (name, schema) in enumerate(self._tools.items()):
            self.rules.append(f"call_{index}: {opening(name)} %json {_json(schema)} {closing}".rstrip())
        return " | ".join(f"call_{index}" for index in range(len(self._tools)))

    def _mark(self, text: str) -> str:
        """A marker: the control tokens in it as such, the rest as text."""
        parts, place = [], 0
        for found in self._controls.finditer(text) if self._control_texts else ():
            parts += [quoted(text[place : found.start()])] if found.start() > place else []
            parts.append(special_name(found[0]))
            place = found.end()
        return " ".join([*parts, quoted(text[place:])] if place < len(text) else parts)


def _schema(name: str, schema: Any) -> Any:
    """The schema of a tool's arguments, checked; any object where it has none."""
    checked = json.loads(schema_grammar(schema or ANY_OBJECT, f"tools[{name!r}].parameters").source)
    return (
        checked
        if checked.get("type") or "$ref" in checked or "anyOf" in checked
        else {**ANY_OBJECT, **checked}
    )


def _json(schema: Any) -> str:
    return json.dumps(schema, ensure_ascii=False)
