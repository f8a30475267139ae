"""Grammars that a request may bring, checked in the front before native code compiles them.

A grammar is a program: these bounds keep its compilation within some 50 ms and a few megabytes. What passes
them and is wrong all the same is refused by the compiler (``llama/masks.py``), with its reason.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from runtime.engine.messages import Grammar
from runtime.errors import InvalidRequest

MAX_SOURCE_CHARACTERS = 256 << 10
MAX_NESTING = 64
"""Objects and lists inside each other in a schema, brackets in a grammar or a pattern."""
MAX_REFERENCES = 512
MAX_RULES = 512
MAX_PATTERN_CHARACTERS = 4096
MAX_REPEAT = 100_000
"""What a count in braces, or a bound on the items of a list or the length of a text, may be.

Larger upper bounds than this would never be reached within a context: they are left out of a schema.
"""
UPPER_BOUNDS = ("maxItems", "maxLength", "maxProperties")
LOWER_BOUNDS = ("minItems", "minLength", "minProperties")


def schema_grammar(schema: Any, field: str = "response_format") -> Grammar:
    """The grammar of a JSON schema, an object or ``True``. Raises InvalidRequest, which names ``field``."""
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{field} is {json.dumps(schema)[:40]}; give a JSON schema", field=field)
    counted = _Counter(field)
    checked = counted.value(schema, 0)
    source = msgspec.json.encode(checked).decode()
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise InvalidRequest(
            f"{field} has {len(source)} characters; a schema may have {MAX_SOURCE_CHARACTERS}", field=field
        )
    return Grammar("json_schema", source)


def check_grammar(grammar: Grammar, field: str = "grammar") -> None:
    """Raise InvalidRequest for a grammar that is too large or nested too deeply to be compiled."""
    source = grammar.source
    if not source.strip():
        raise InvalidRequest(f"{field} is empty; give a grammar or leave it out", field=field)
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise InvalidRequest(
            f"{field} has {len(source)} characters; at most {MAX_SOURCE_CHARACTERS} are compiled", field=field
        )
    if grammar.kind == "json_schema":
        return  # made by schema_grammar
    _check_brackets(source, field)
    _check_repeats(source, field)
    if grammar.kind != "regex":
        rules = len(re.findall(r"^\s*[\w?!-]+(?:\[[^\]\n]*\])?\s*(?:\.\d+)?\s*:", source, re.MULTILINE))
        if rules > MAX_RULES:
            raise InvalidRequest(f"{field} has {rules} rules; at most {MAX_RULES} are compiled", field=field)


def special_name(text: str) -> str:
    """How a grammar writes a control token: in angle brackets, where its own text is not in them."""
    return text if text.startswith("<") and text.endswith(">") else f"<{text.strip('[]')}>"


class _Counter:
    """Walks a schema once: copies it, without bounds that no answer reaches, and counts what costs."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._references = 0

    def value(self, value: Any, depth: int) -> Any:
        if depth > MAX_NESTING:
            self._refuse(f"nests deeper than {MAX_NESTING} levels; flatten it, or define parts in $defs")
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        copy = {}
        for key, item in value.items():
            if key == "$ref" and isinstance(item, str):
                self._references += 1
                if self._references > MAX_REFERENCES:
                    self._refuse(f"has more than {MAX_REFERENCES} references")
                if not item.startswith("#"):
                    self._refuse(f"refers to {item!r}; only parts of the same schema ('#/...') are read")
            elif key == "pattern" and isinstance(item, str):
                if len(item) > MAX_PATTERN_CHARACTERS:
                    self._refuse(
                        f"has a pattern of {len(item)} characters, more than {MAX_PATTERN_CHARACTERS}"
                    )
                _check_brackets(item, self._field)
                _check_repeats(item, self._field)
            elif key in UPPER_BOUNDS and _is_number(item) and item > MAX_REPEAT:
                continue
            elif key in LOWER_BOUNDS and _is_number(item) and item > MAX_REPEAT:
                self._refuse(f"asks for {key} of {item}; at most {MAX_REPEAT} fit into an answer")
            copy[key] = self.value(item, depth + 1)
        return copy

    def _refuse(self, reason: str) -> None:
        raise InvalidRequest(f"{self._field}: the schema {reason}", field=self._field)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_brackets(source: str, field: str) -> None:
    """Brackets are counted wherever they stand: one that is quoted counts as well, which is on the safe
    side."""
    depth = 0
    for match in re.finditer(r"\\.|[(\[{]|[)\]}]", source):
        if match[0] in "([{":
            depth += 1
            if depth > MAX_NESTING:
                raise InvalidRequest(
                    f"{field} opens more than {MAX_NESTING} brackets inside each other; flatten it",
                    field=field,
                )
        elif match[0] in ")]}":
            depth = max(0, depth - 1)


def _check_repeats(source: str, field: str) -> None:
    for match in re.finditer(r"\{\s*(\d*)\s*,?\s*(\d*)\s*\}", source):
        for count in match.groups():
            if count and (len(count) > 7 or int(count) > MAX_REPEAT):
                raise InvalidRequest(
                    f"{field} repeats something {count[:12]} times; at most {MAX_REPEAT} times are compiled",
                    field=field,
                )
