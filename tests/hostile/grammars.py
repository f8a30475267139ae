"""Grammars, schemas and patterns that cost servers their lives or their time: each must be refused, soon."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

Asked = dict[str, Any]
"""Fields of a chat request."""


def grammar(source: str) -> Asked:
    return {"grammar": source}


def schema(value: Any) -> Asked:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}}


def pattern(text: str) -> Asked:
    return schema({"type": "string", "pattern": text})


def nested(levels: int) -> Any:
    value: Any = {"type": "string"}
    for _ in range(levels // 2):  # each is an object in an object
        value = {"type": "object", "properties": {"a": value}}
    return value


def chain(rules: int) -> str:
    return "\n".join(f"r{n} ::= r{n + 1}" for n in range(rules)) + f'\nr{rules} ::= "x"\nroot ::= r0'


def exploding(levels: int) -> Any:
    """Definitions of which each names the next one twice, in every order."""
    parts = {
        f"d{n}": {
            "anyOf": [
                {"$ref": f"#/$defs/d{n + 1}"},
                {"type": "array", "items": [{"$ref": f"#/$defs/d{n + 1}"}] * 9},
            ]
        }
        for n in range(levels)
    }
    return {"$defs": parts | {f"d{levels}": {"type": "null"}}, "$ref": "#/$defs/d0"}


REFUSED: Final[dict[str, Callable[[], Asked]]] = {
    "S01 60,000 brackets inside each other": lambda: grammar(
        "root ::= " + "(" * 60_000 + '"x"' + ")" * 60_000
    ),
    "S02 a chain of 5,000 rules": lambda: grammar(chain(5000)),
    "S03 two thousand million times": lambda: grammar('root ::= "a"{2000000000,2147483647}'),
    "S04 many times many times": lambda: grammar('root ::= ("a"{1,1999}){1,1999}'),
    "S05 a list of 10^9 items at least": lambda: schema({"type": "array", "minItems": 10**9}),
    "S06 a text of 10^9 characters at least": lambda: schema({"type": "string", "minLength": 10**9}),
    "S07 no root": lambda: grammar('other ::= "x"'),
    "S08 a rule that is not there": lambda: grammar("root ::= nowhere"),
    "S09 no grammar at all": lambda: grammar("\x00\x01\x02 ::= )))"),
    "S10 an empty one": lambda: grammar("   "),
    "S11 a megabyte of rules": lambda: grammar('root ::= "' + "x" * (1 << 20) + '"'),
    "S50 stars inside stars": lambda: grammar('root ::= (("a"*)*)*'),
    "S14 a look behind": lambda: pattern("(?<=x)*"),
    "S15 10,000 groups inside each other": lambda: pattern("(" * 10_000 + "x" + ")" * 10_000),
    "S16 a pattern that is no text": lambda: schema({"type": "string", "pattern": 7}),
    "S17 a type that is none": lambda: schema({"type": "stringy"}),
    "S18 a type that is a number": lambda: schema({"type": 1}),
    "S19 400 objects inside each other": lambda: schema(nested(400)),
    "S20 a reference to another document": lambda: schema({"$ref": "http://example.com/x.json"}),
    "S21 a reference to nothing": lambda: schema({"$ref": "#/$defs/nothing"}),
    "S22 thousands of references": lambda: schema(exploding(200)),
    "S23 a schema of a megabyte": lambda: schema({"enum": ["x" * 100 + str(n) for n in range(10_000)]}),
    "S24 a schema that is a list": lambda: schema([1, 2]),
    "S25 nothing fits it": lambda: schema({"allOf": [{"type": "string"}, {"type": "integer"}]}),
    "S27 a lark with a megabyte of alternatives": lambda: grammar(
        "root ::= " + " | ".join(json.dumps(f"w{n}") for n in range(60_000))
    ),
}

HARMLESS: Final[dict[str, Callable[[], Asked]]] = {
    "S12 ^+[a-z]$": lambda: pattern("^+[a-z]$"),
    "S13 ^{2}times$": lambda: pattern("^{2}times$"),
    "S26 a repetition of patterns": lambda: pattern("(a{1,99999}){1,99999}"),
    "S51 left recursion": lambda: grammar('root ::= root "a" | "a"'),
    "S52 a pattern on which others take exponential time": lambda: pattern("(a+)+b"),
    "S53 an object without properties": lambda: schema({"type": "object", "properties": {}}),
    "S54 a text of at most 5,000 characters": lambda: schema({"type": "string", "maxLength": 5000}),
    "S55 a list of at most 10^9 items": lambda: schema({"type": "array", "maxItems": 10**9}),
    "S56 a schema that names itself": lambda: schema(
        {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}
    ),
    "S57 no schema": lambda: schema({}),
}
"""Odd, but served: hardening must not cost anybody a request. Each costs no more time than the others."""
