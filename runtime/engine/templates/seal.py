"""Keep a user's text from becoming control tokens.

A chat template prints its own control tokens and the user's text into one string; afterwards nobody can tell
which ``<|im_end|>`` was whose. Replacing the control texts in the user's strings beforehand is not enough: a
template may make one out of harmless parts (``<{{ key }}>`` around an argument named ``s``; a content ending
in ``<|im_`` before ``end|>``; two contents joined; ``content | replace('<think>', '')`` of
``<|im_<think>end|>``; a ``trim``).

So a conversation is rendered twice, by two seals. Sealing replaces characters, one for one, by private-use
code points that occur nowhere in the input, so that no control text can be read in them.

- The *light* seal takes only the control texts that stand in the user's strings. Nearly always there are
  none, and the template sees exactly what it would see in ``transformers``.
- The *full* seal takes each character of the user's that is ASCII or that any control text has, so that every
  control token of this rendering is the template's own, whatever it does with its input. White space, quotes
  and backslashes stay, lengths stay: templates go the same way.

:func:`settle` compares. If both renderings are the same text once unsealed, they align character by
character, and having their control tokens at the same places proves that none of them has a character of the
user's in it. If the template computes with the user's text (sorts it, changes case, looks for ``</think>`` in
it) the texts differ; then the sequence of control tokens must be the same. The light rendering is the prompt
if so, the full one if not. ``Prompt.protected`` maps the private-use characters back; the worker restores
them after it has cut the text at the control tokens (:func:`control_text.split_prompt`).

Never sealed are the words of closed sets, which templates compare with: roles, the keywords and type names of
JSON Schema, the keys of a template variable that the template names and a variable's values that stand quoted
in its source (``reasoning_effort == 'high'``). Numbers are no text. A template that is hostile itself needs
no user to print control tokens; nothing here is against it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from runtime.engine.messages import Prompt
from runtime.engine.templates.control_text import ControlFinder
from runtime.errors import EngineError

PRIVATE_USE = range(0xE000, 0xF900)
MARK = re.compile(r"[\ue000-\uf8ff]|\\u(?:e[0-9a-f]{3}|f[0-8][0-9a-f]{2})")
"""A private-use character, or its escape in JSON (``tojson(ensure_ascii=True)``) and in Python's ``repr``."""

MAPS_OF_NAMES = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
"""Keywords of JSON Schema whose object has names of the user's as keys."""

# fmt: off
SCHEMA_WORDS = MAPS_OF_NAMES | {
    "$ref", "$schema", "additionalProperties", "allOf", "anyOf", "const", "contains", "default",
    "dependentRequired", "description", "else", "enum", "example", "examples", "exclusiveMaximum",
    "exclusiveMinimum", "format", "function", "if", "items", "maxItems", "maxLength", "maximum",
    "maxProperties", "minItems", "minLength", "minimum", "minProperties", "multipleOf", "name", "not",
    "nullable", "oneOf", "parameters", "pattern", "prefixItems", "propertyNames", "readOnly", "required",
    "response", "return", "returns", "strict", "then", "title", "type", "unevaluatedProperties",
    "uniqueItems",
}
TYPE_WORDS = frozenset({"array", "boolean", "function", "integer", "null", "number", "object", "string"})
# fmt: on

Marks = dict[str, str]
"""Private-use character -> the character that it stands for."""


def choose_marks(finder: ControlFinder, inputs: str) -> Marks:
    """A mark for each character to be sealed. ``inputs`` holds all strings of a rendering: none has a mark.

    There is none to be sealed where there are no control texts. Raises EngineError for a vocabulary whose
    control texts have thousands of different characters.
    """
    originals = _opaque(finder.texts)
    taken = {*originals, *(_unescaped(mark) for mark in _marks_in(inputs))}
    marks = list(islice((chr(code) for code in PRIVATE_USE if chr(code) not in taken), len(originals)))
    if len(marks) < len(originals):
        raise EngineError(
            f"the control tokens of this vocabulary have {len(originals)} different characters; "
            f"at most {len(PRIVATE_USE)} can be guarded"
        )
    return dict(zip(marks, originals, strict=True))


class Seal:
    """Seals the parts of a conversation; ``full`` and light seals are told apart above."""

    def __init__(self, finder: ControlFinder, marks: Marks, source: str, *, full: bool) -> None:
        self._finder = finder
        self._source = source
        self._full = full
        self._sealing = {ord(original): ord(mark) for mark, original in marks.items()}

    def text(self, text: str) -> str:
        if self._full:
            return text.translate(self._sealing)
        parts, place = [], 0
        for start, end in self._finder.spans(text):
            parts += [text[place:start], text[start:end].translate(self._sealing)]
            place = end
        return "".join([*parts, text[place:]]) if parts else text

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A message in the template's form: all is the user's but its keys, its role and its types."""
        return {key: item if key == "role" else self._message_item(item) for key, item in message.items()}

    def _message_item(self, item: Any, key: str = "") -> Any:
        match item:
            case str():
                return item if key == "type" else self.text(item)
            case dict() if key == "arguments":
                return self.tree(item)
            case dict():
                return {name: self._message_item(part, name) for name, part in item.items()}
            case list():
                return [self._message_item(part) for part in item]
            case _:
                return item

    def tree(self, value: Any) -> Any:
        """Any JSON, keys and values."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(key): self.tree(item) for key, item in value.items()}
            case list() | tuple():
                return [self.tree(item) for item in value]
            case _:
                return value

    def tool(self, value: Any, *, names: bool = False) -> Any:
        """A tool definition; ``names``: the keys of this object are the user's."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {
                    key if key in SCHEMA_WORDS and not names else self.text(key): (
                        item
                        if key == "type" and not names and _is_type(item)
                        else self.tool(item, names=key in MAPS_OF_NAMES and not names)
                    )
                    for key, item in value.items()
                }
            case list() | tuple():
                return [self.tool(item) for item in value]
            case _:
                return value

    def variable(self, value: Any) -> Any:
        """The value of a template variable that a caller may set."""
        match value:
            case str():
                known = f"'{value}'" in self._source or f'"{value}"' in self._source
                return value if known else self.text(value)
            case dict():
                return {
                    key if re.search(rf"\b{re.escape(key)}\b", self._source) else self.text(key): (
                        self.variable(item)
                    )
                    for key, item in value.items()
                }
            case list() | tuple():
                return [self.variable(item) for item in value]
            case _:
                return value


def settle(light: str, full: str, marks: Marks, finder: ControlFinder) -> Prompt:
    """The prompt, of a conversation's two renderings (see above)."""
    opening = {ord(mark): ord(original) for mark, original in marks.items()}
    in_light, in_full = finder.spans(light), finder.spans(full)
    if light.translate(opening) == full.translate(opening):
        safe = in_light == in_full
    else:
        safe = [light[slice(*span)] for span in in_light] == [full[slice(*span)] for span in in_full]
    text = light if safe else full
    found = {mark: marks.get(_unescaped(mark)) for mark in _marks_in(text)}
    return Prompt(text, {mark: original for mark, original in found.items() if original is not None})


@functools.lru_cache(maxsize=8)
def _opaque(texts: frozenset[str]) -> tuple[str, ...]:
    """What the full seal hides: what templates do not work on, or what a control text would be left with."""
    opaque = set(map(chr, range(0x21, 0x7F))) - set('"\\') if texts else set()
    for text in texts:
        opaque.update(char for char in text if not char.isascii() and not char.isspace())
        if opaque.isdisjoint(text):
            opaque.update(text)
    return tuple(sorted(opaque))


def _marks_in(text: str) -> set[str]:
    return set() if text.isascii() and "\\u" not in text else set(MARK.findall(text))


def _unescaped(mark: str) -> str:
    return mark if len(mark) == 1 else chr(int(mark[2:], 16))


def _is_type(item: Any) -> bool:
    words = item if isinstance(item, list) else [item]
    return all(isinstance(word, str) and word in TYPE_WORDS for word in words)
