"""Gemma 4 and FunctionGemma: ``call:NAME{key:value,...}``, where strings stand in markers of their own."""

from __future__ import annotations

import json
import re

from runtime.engine.answers.parser import Malformed, Parser, Steps

OPENINGS = ("<|tool_call>", "<start_function_call>")
CLOSINGS = ("<tool_call|>", "<end_function_call>")
QUOTES = ('<|"|>', "<escape>")
ENDS = re.compile(r"[,}\]:]")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")
"""JSON's: a postcode that begins with a zero is a text."""


class Gemma(Parser):
    """Arguments are read whole before they are given as JSON: their notation is none."""

    shown = (*OPENINGS, *CLOSINGS, *QUOTES, "<|channel>", "<channel|>")
    thoughts = ("<|channel>thought", "<channel|>")

    def parse(self) -> Steps:
        markers = OPENINGS if self.tools else ()
        while (found := (yield from self.until((*markers, "<|channel>thought"), self.say))) is not None:
            if found in OPENINGS:
                yield from self.call(found, self.one_call())
            else:
                yield from self.until(("<channel|>",), self.think)
            yield from self.space()

    def one_call(self) -> Steps:
        """``call:NAME{...}`` and the closing marker."""
        yield from self.space()
        if not (yield from self.starts_with("call:")):
            raise Malformed("no call")
        name = (yield from self.text_until(("{",))).strip()
        arguments = yield from self.mapping()
        self.start_call(name)
        self.argue(json.dumps(arguments, ensure_ascii=False))
        for closing in CLOSINGS:
            yield from self.starts_with(closing)

    def mapping(self, depth: int = 0) -> Steps:
        """Behind a ``{``: keys and values up to its ``}``."""
        found: dict[str, object] = {}
        while True:
            yield from self.space()
            if (yield from self.starts_with("}")):
                return found
            yield from self.starts_with(",")
            yield from self.space()
            key = yield from self.quoted()
            if key is None:
                key = (yield from self.text_until((":",))).strip()
            else:
                yield from self.text_until((":",))
            found[key] = yield from self.value(depth + 1)

    def value(self, depth: int) -> Steps:
        """One value: a quoted text, a mapping, a list, or a bare word."""
        if depth > 64:
            raise Malformed("arguments nest too deeply")
        yield from self.space()
        text = yield from self.quoted()
        if text is not None:
            return text
        if (yield from self.starts_with("{")):
            return (yield from self.mapping(depth))
        if (yield from self.starts_with("[")):
            items: list[object] = []
            while True:
                yield from self.space()
                if (yield from self.starts_with("]")):
                    return items
                yield from self.starts_with(",")
                items.append((yield from self.value(depth + 1)))
        word = ""
        while (char := (yield from self.peek(1))) and not ENDS.match(char):
            word += self.take_one()
        if not char:
            raise Malformed("the answer ends inside a call")
        word = word.strip()
        if word in ("true", "false", "null") or NUMBER.match(word):
            return json.loads(word)
        return word

    def quoted(self) -> Steps:
        """A text between two marks, or None."""
        for mark in QUOTES:
            if (yield from self.starts_with(mark)):
                return (yield from self.text_until((mark,)))
        return None
