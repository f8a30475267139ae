"""Qwen3-Coder, and others that write calls as tags: values come as text, and the schema says what they
are."""

from __future__ import annotations

import json
from typing import Any

from runtime.engine.answers.hermes import OPEN, Hermes
from runtime.engine.answers.parser import Malformed, Steps

FUNCTION, PARAMETER = "<function=", "<parameter="


class QwenCoder(Hermes):
    """``<tool_call>\\n<function=NAME>\\n<parameter=KEY>\\nVALUE\\n</parameter>\\n</function>\\n</tool_call>``"""

    def parse(self) -> Steps:
        markers = (OPEN, FUNCTION) if self.tools else ()
        while (found := (yield from self.until(markers, self.say))) is not None:
            if (yield from self.call(found, self.tagged_call(found))):
                yield from self.close()

    def tagged_call(self, opening: str) -> Steps:
        """One call, behind ``<tool_call>`` or, where a model leaves that out, behind ``<function=``."""
        if opening == OPEN:
            yield from self.space()
            if not (yield from self.starts_with(FUNCTION)):
                yield from self.json_call()
                return
        name = (yield from self.text_until((">",))).strip()
        self.start_call(name)
        count = 0
        while (found := (yield from self.until((PARAMETER, "</function>"), drop))) == PARAMETER:
            key = (yield from self.text_until((">",))).strip()
            value = yield from self.text_until(("</parameter>",))
            self.argue(("{" if count == 0 else ", ") + f"{json.dumps(key)}: {self.typed(name, key, value)}")
            count += 1
        if found is None:
            raise Malformed("the answer ends inside a call")
        self.argue("}" if count else "{}")

    def typed(self, function: str, key: str, value: str) -> str:
        """The JSON of a parameter that was written as text: one line break on each side is layout."""
        value = value.removeprefix("\n").removesuffix("\n")
        schema = (self.tools.get(function) or {}).get("properties") or {}
        kinds = kinds_of(schema.get(key))
        if kinds and "string" not in kinds:
            try:
                return json.dumps(json.loads(value), ensure_ascii=False)
            except (ValueError, RecursionError):
                words = {"true": "true", "false": "false", "none": "null", "null": "null"}
                if value.strip().lower() in words:
                    return words[value.strip().lower()]
        return json.dumps(value, ensure_ascii=False)


def kinds_of(schema: Any) -> set[str]:
    """The JSON types that a schema allows; empty where it does not say, which is text as well."""
    if not isinstance(schema, dict):
        return set()
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {each for each in kind if isinstance(each, str)}
    options = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(options, list):
        return set().union(*(kinds_of(option) for option in options))
    return set()


def drop(_text: str) -> None:
    """What stands between parameters is layout."""
