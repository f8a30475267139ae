"""Mistral: ``[TOOL_CALLS]`` before a list of calls (to 2024) or before each call (since)."""

from __future__ import annotations

from runtime.engine.answers.parser import Malformed, Parser, Steps

CALLS, ARGUMENTS, IDENTIFIER = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"


class Mistral(Parser):
    """``[TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]`` or
    ``[TOOL_CALLS]NAME[CALL_ID]ID[ARGS]{...}``."""

    shown = (CALLS, ARGUMENTS, IDENTIFIER, "[THINK]", "[/THINK]")
    thoughts = ("[THINK]", "[/THINK]")

    def parse(self) -> Steps:
        markers = (CALLS,) if self.tools else ()
        while (yield from self.until(markers, self.say)) is not None:
            yield from self.space()
            first = yield from self.peek(1)
            if first == "[":
                yield from self.listed()
            elif first == "{":
                yield from self.call(CALLS, self.json_call())
            else:
                yield from self.call(CALLS, self.named_call())
            yield from self.space()

    def listed(self) -> Steps:
        """A list of objects."""
        opening = CALLS + "["
        yield from self.starts_with("[")
        while (yield from self.call(opening, self.json_call())):
            yield from self.space()
            if not (yield from self.starts_with(",")):
                yield from self.starts_with("]")
                return
            opening = ""

    def named_call(self) -> Steps:
        """A name, perhaps an id, and an object."""
        parts: list[str] = []
        found = yield from self.until((IDENTIFIER, ARGUMENTS, "{"), parts.append)
        name, identifier = "".join(parts).strip(), None
        if found == IDENTIFIER:
            identifier = (yield from self.text_until((ARGUMENTS,))).strip()
        if found is None:
            raise Malformed("no arguments")
        self.start_call(name, identifier)
        if found == "{":
            self.unread("{")
        yield from self.json_value(self.argue)
