"""A tool's JSON schema as rules in Gemma's notation: JSON's, but that texts stand in marks of their own and
keys are bare."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from runtime.engine.answers.lark import escaped, quoted
from runtime.errors import InvalidRequest

ANY = "value"
KINDS: dict[Any, Any] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float),
}  # fmt: skip
NUMBERS = ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
NOTES = frozenset({"description", "title", "default", "examples", "$schema", "$defs", "definitions", "$id"})
"""What says nothing about a value."""
MOST_PARTS = 4096
"""Of a schema whose alternatives were multiplied out."""


class GemmaArguments:
    """Writes the rules of one tool's arguments.

    ``mark`` is what stands before and behind a text, as the grammar writes it; the grammar has the rules
    ``value`` (anything), ``string`` (a text and the mark behind it) and ``KEY``. Properties come in one
    order, those that must be there first; where a schema has some, no others are written. Not held:
    ``format``, ``not``, ``uniqueItems``, and counts of properties.
    """

    def __init__(self, prefix: str, schema: Any, mark: str, *, spelled: str | None) -> None:
        """``spelled``: the mark is no control token but this text, which a text must not have in it."""
        self.rules: list[str] = []
        self._prefix = prefix
        self._root = schema
        self._mark = mark
        self._spelled = spelled
        self._referred: dict[str, str] = {}
        self._parts = 0

    def expression(self, schema: Any) -> str:
        """What a value of ``schema`` looks like. Raises InvalidRequest for what is too much, or unknown."""
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidRequest(f"a tool's schema has more than {MOST_PARTS} alternatives", field="tools")
        if not isinstance(schema, dict):
            return ANY
        if "$ref" in schema:
            return self._reference(schema["$ref"])
        if parts := schema.get("allOf"):
            whole = {key: value for key, value in schema.items() if key != "allOf"}
            for part in parts:
                whole = self._merged(whole, part)
            return self.expression(whole)
        for key in ("anyOf", "oneOf"):
            if options := schema.get(key):
                rest = {name: value for name, value in schema.items() if name != key}
                return either(self.expression(self._merged(rest, option)) for option in options)
        kind = schema.get("type")
        if "const" in schema or "enum" in schema:
            given = [schema["const"]] if "const" in schema else schema["enum"]
            chosen = [value for value in given if is_of(value, kind)]
            if not chosen:
                raise InvalidRequest(
                    f"a tool's schema lets nothing be {kind} and one of {given}"[:300], field="tools"
                )
            return either(map(self._literal, chosen))
        if isinstance(kind, list):
            return either(self.expression({**schema, "type": each}) for each in kind)
        return self._of_kind(kind, schema)

    def _of_kind(self, kind: Any, schema: dict[str, Any]) -> str:
        if kind == "object" or (kind is None and ("properties" in schema or "required" in schema)):
            return self._object(schema)
        if kind == "array" or (kind is None and "items" in schema):
            return self._array(schema)
        match kind:
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return f"%json {json.dumps({key: schema[key] for key in NUMBERS if key in schema})}"
            case "boolean":
                return '("true" | "false")'
            case "null":
                return '"null"'
            case _:
                return ANY

    def _object(self, schema: dict[str, Any]) -> str:
        properties = schema.get("properties") or {}
        required = sorted(set(schema.get("required") or ()))
        if not properties and not required:
            inner = self.expression(schema.get("additionalProperties", True))
            return "map" if inner == ANY else f'"{{" (KEY ":" {inner} ("," KEY ":" {inner})*)? "}}"'
        pairs = {
            key: f"{quoted(f'{key}:')} {self.expression(properties.get(key, True))}"
            for key in (*required, *sorted(set(properties) - set(required)))
        }
        optional = [pairs[key] for key in pairs if key not in required]
        if required:
            must = ' "," '.join(pairs[key] for key in required)
            may = "".join(f' ("," {pair})?' for pair in optional)
            return self._rule(f'"{{" {must}{may} "}}"')
        rest, first = self._rule('""'), '""'
        for pair in reversed(optional):
            first = self._rule(f"{pair} {rest} | {first}")
            rest = self._rule(f'("," {pair})? {rest}')
        return f'"{{" {first} "}}"'

    def _array(self, schema: dict[str, Any]) -> str:
        item = self.expression(schema.get("items", True))
        least, most = int(schema.get("minItems") or 0), schema.get("maxItems")
        if most is not None and int(most) < 1:
            return '"[" "]"'
        more = f'("," {item}){{{max(0, least - 1)},{"" if most is None else int(most) - 1}}}'
        items = f"{item} {more}"
        return f'"[" {items if least else f"({items})?"} "]"'

    def _string(self, schema: dict[str, Any]) -> str:
        least, most = int(schema.get("minLength") or 0), schema.get("maxLength")
        held = []
        if least or most is not None:
            held.append(f"/(.|\\n){{{least},{'' if most is None else int(most)}}}/")
        if isinstance(pattern := schema.get("pattern"), str) and (found := whole_pattern(pattern)):
            held.append(found)
        if not held:
            return f"{self._mark} string"
        name = f"{self._prefix}_text_{len(self.rules)}".upper()
        if not self._spelled:
            self.rules.append(f"{name}: {' & '.join(held)}")
            return f"{self._mark} {name} {self._mark}"
        held.append(f"~/(.|\\n)*{escaped(self._spelled)}(.|\\n)*/")
        self.rules += [f"{name}: {' & '.join(held)}", f"{name}_END: {name} {self._mark}"]
        return f"{self._mark} {name}_END"

    def _literal(self, value: Any) -> str:
        match value:
            case str():
                return " ".join(filter(None, [self._mark, quoted(value) if value else "", self._mark]))
            case list():
                return " ".join(['"["', ' "," '.join(map(self._literal, value)), '"]"'])
            case dict():
                pairs = [f"{quoted(f'{key}:')} {self._literal(each)}" for key, each in sorted(value.items())]
                return " ".join(['"{"', ' "," '.join(pairs), '"}"'])
            case _:
                return quoted(json.dumps(value))

    def _reference(self, pointer: Any) -> str:
        if pointer not in self._referred:
            name = self._referred[pointer] = f"{self._prefix}_part_{len(self._referred)}"
            self.rules.append(f"{name}: {self.expression(self._resolved(pointer))}")
        return self._referred[pointer]

    def _resolved(self, pointer: Any) -> Any:
        place = self._root
        for step in str(pointer).removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, dict) or key not in place:
                raise InvalidRequest(f"a tool's schema has no {str(pointer)[:80]!r}", field="tools")
            place = place[key]
        return place

    def _merged(self, first: dict[str, Any], second: Any) -> Any:
        """A schema of all that two of them say."""
        if not set(first) - NOTES:
            return second
        seen = 0
        while isinstance(second, dict) and "$ref" in second and seen < MOST_PARTS:
            second, seen = self._resolved(second["$ref"]), seen + 1
        if not isinstance(second, dict):
            return first
        both = {**first, **second}
        if "properties" in first and "properties" in second:
            both["properties"] = {**first["properties"], **second["properties"]}
        if "required" in first and "required" in second:
            both["required"] = [*first["required"], *second["required"]]
        return both

    def _rule(self, body: str) -> str:
        name = f"{self._prefix}_object_{len(self.rules)}"
        self.rules.append(f"{name}: {body}")
        return name


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, or of one of several; of any where there is none."""
    kinds = kind if isinstance(kind, list) else [kind]
    if kind is None or (isinstance(value, float) and value.is_integer() and "integer" in kinds):
        return True
    if isinstance(value, bool) or value is None:
        return ("null" if value is None else "boolean") in kinds
    return any(isinstance(value, KINDS.get(each, ())) for each in kinds)


def either(options: Iterable[str]) -> str:
    """One of some expressions."""
    return f"({' | '.join(dict.fromkeys(options))})"


def whole_pattern(pattern: str) -> str | None:
    """A schema's pattern, which may lie anywhere in a text, as one of the whole text.

    None where its anchors stand in the middle.
    """
    begins, ends = pattern.startswith("^"), pattern.endswith("$") and not pattern.endswith("\\$")
    inner = pattern[begins : len(pattern) - ends]
    if "^" in inner.replace("[^", "").replace("\\^", "") or "$" in inner.replace("\\$", ""):
        return None
    if (begins or ends) and "|" in inner:
        return None
    before, behind = "" if begins else "(.|\\n)*", "" if ends else "(.|\\n)*"
    return f"/{before}({inner.replace('/', chr(92) + '/')}){behind}/"
