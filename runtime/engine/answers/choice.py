"""Grammars for answers that have to call a tool, or may and then must do it right.

Each is in llguidance's Lark: rules of a family's own markers around JSON schemas. A marker that is a control
token of the vocabulary is written as such, any other as text.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from runtime.engine.answers.families import Family
from runtime.engine.answers.qwen_coder import kinds_of
from runtime.engine.grammar import schema_grammar
from runtime.engine.messages import Grammar

ANY_OBJECT = {"type": "object"}


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
    start, end = family.parser.thoughts
    first = ""
    if thinking:
        first = "thought "
        writer.rules.append(f"thought[lazy]: /(.|\\n)*{_pattern(end)}\\s*/")
    elif start.isprintable():
        first = "thought? "
        writer.rules.append(f"thought[lazy]: /\\s*{_pattern(start)}(.|\\n)*{_pattern(end)}\\s*/")
    if {start, end} & set(control_texts):
        first = ""  # a pattern does not cross control tokens
    return Grammar("lark", "\n".join([f"start: {first}{body}", *dict.fromkeys(writer.rules)]))


class _Writer:
    """Rules of one grammar; a method a family gives the right side of ``start``."""

    def __init__(self, control_texts: Collection[str], tools: dict[str, Any]) -> None:
        self._control_texts = control_texts
        self._tools = tools
        self.rules: list[str] = []

    def hermes(self, parallel: bool) -> str:
        return self._blocks("<tool_call>", "arguments", "</tool_call>", parallel)

    generic = hermes

    def llama3(self, parallel: bool) -> str:
        self.rules.append(f"call: %json {self._objects('parameters')}")
        return 'call (";" call)*' if parallel else "call"

    def mistral(self, parallel: bool) -> str:
        mark = self._mark("[TOOL_CALLS]")
        if "[ARGS]" in self._control_texts:
            calls = self._named(lambda name: f"{mark} {_text(name)} {self._mark('[ARGS]')}", "")
            return f"({calls})+" if parallel else f"({calls})"
        least = {"minItems": 1} if parallel else {"minItems": 1, "maxItems": 1}
        schema = {"type": "array", "items": json.loads(self._objects("arguments")), **least}
        self.rules.append(f"calls: %json {json.dumps(schema)}")
        return f"{mark} calls"

    def deepseek(self, parallel: bool) -> str:
        begin, call, end, separator = (
            self._mark(text)
            for text in (
                "<｜tool▁calls▁begin｜>",
                "<｜tool▁call▁begin｜>",
                "<｜tool▁call▁end｜>",
                "<｜tool▁sep｜>",
            )
        )
        calls = self._named(
            lambda name: (
                f"{call} {_text('function')} {separator} {_text(f'{name}{chr(10)}```json{chr(10)}')}"
            ),
            f"{_text(chr(10) + '```')} {end}",
        )
        return f"{begin} ({calls}){'+' if parallel else ''} {self._mark('<｜tool▁calls▁end｜>')}"

    def gemma(self, parallel: bool) -> str:
        gemma4 = "<|tool_call>" in self._control_texts
        opening, closing = ("<|tool_call>", "<tool_call|>") if gemma4 else (
            "<start_function_call>",
            "<end_function_call>",
        )  # fmt: skip
        quote = self._mark('<|"|>' if gemma4 else "<escape>")
        names = " | ".join(_text(f"call:{name}") for name in self._tools)
        self.rules += [
            f"call: {self._mark(opening)} ({names}) map {self._mark(closing)}",
            'map: "{" (pair ("," pair)*)? "}"',
            'pair: KEY ":" value',
            f'value: map | "[" (value ("," value)*)? "]" | {quote} STRING {quote} | NUMBER | WORD',
            'WORD: "true" | "false" | "null"',
            "KEY: /[A-Za-z_][A-Za-z0-9_.-]*/",
            "STRING: /(.|\\n)*/",
            "NUMBER: /-?[0-9]+(\\.[0-9]+)?/",
        ]
        return "call+" if parallel else "call"

    def qwen_coder(self, parallel: bool) -> str:
        calls = []
        for index, (name, schema) in enumerate(self._tools.items()):
            required = set(schema.get("required") or ())
            parts = []
            for number, (key, part) in enumerate((schema.get("properties") or {}).items()):
                rule = f"parameter_{index}_{number}"
                opening, closing = _text(f"<parameter={key}>\n"), "\n</parameter>\n"
                if isinstance(part, dict) and (kinds := kinds_of(part)) and "string" not in kinds:
                    self.rules.append(f"{rule}: {opening} %json {_json(part)} {_text(closing)}")
                else:
                    self.rules += [f"{rule}: {opening} value", f"value[lazy]: /(.|\\n)*{_pattern(closing)}/"]
                parts.append(rule if key in required else f"{rule}?")
            calls.append(
                f"{_text(f'<tool_call>{chr(10)}<function={name}>{chr(10)}')} {' '.join(parts)} "
                f"{_text(f'</function>{chr(10)}</tool_call>')}"
            )
        self.rules.append(f"call: {' | '.join(calls)}")
        return f"call ({_text(chr(10))} call)*" if parallel else "call"

    def harmony(self, parallel: bool) -> str:
        channel, message = self._mark("<|channel|>"), self._mark("<|message|>")
        thought = f"({channel} {_text('analysis')} {message} TEXT {self._mark('<|end|>')} "
        thought += f"{self._mark('<|start|>')} {_text('assistant')})?"
        self.rules.append("TEXT: /(.|\\n)*/")
        calls = self._named(
            lambda name: (
                f"{channel} {_text(f'commentary to=functions.{name} ')} {self._mark('<|constrain|>')} "
                f"{_text('json')} {message}"
            ),
            "",
        )
        return f"{thought} ({calls})"

    def _blocks(self, opening: str, key: str, closing: str, parallel: bool) -> str:
        before, after = self._mark(opening, "\n"), self._mark(closing, before="\n")
        self.rules.append(f"call: {before} %json {self._objects(key)} {after}")
        return f"call ({_text(chr(10))} call)*" if parallel else "call"

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

    def _mark(self, text: str, after: str = "", *, before: str = "") -> str:
        """A marker, with layout around it."""
        if text not in self._control_texts:
            return _text(f"{before}{text}{after}")
        name = text if text.startswith("<") and text.endswith(">") else f"<{text.strip('[]')}>"
        return " ".join(filter(None, [before and _text(before), name, after and _text(after)]))


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


def _text(text: str) -> str:
    """A text in Lark: its strings are JSON's."""
    return json.dumps(text, ensure_ascii=False)


def _pattern(text: str) -> str:
    """A text in a Lark regular expression, between slashes."""
    escaped = "".join(f"\\{char}" if char in "\\/.^$*+?()[]{}|\"'" else char for char in text)
    return escaped.replace("\n", "\\n")
