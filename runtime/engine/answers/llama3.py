"""Llama 3.x: a call is the whole answer, bare JSON, perhaps behind ``<|python_tag|>``."""

from __future__ import annotations

from runtime.engine.answers.parser import Malformed, Parser, Steps

TAG = "<|python_tag|>"
FUNCTION = "<function="


class Llama3(Parser):
    """``{"name": ..., "parameters": {...}}``, several of them separated by ``;``, or
    ``<function=NAME>{...}``."""

    shown = (TAG,)

    def parse(self) -> Steps:
        if not self.tools:
            return
        yield from self.space()
        tagged = yield from self.starts_with(TAG)
        while (yield from self.peek(1)) == "{":
            if not (yield from self.call(TAG if tagged else "", self.json_call())):
                return
            yield from self.space()
            yield from self.starts_with(";")
            yield from self.space()
        while (yield from self.starts_with(FUNCTION)):
            if not (yield from self.call(FUNCTION, self.named_call())):
                return
            yield from self.space()

    def named_call(self) -> Steps:
        """``NAME>{...}</function>``"""
        self.start_call((yield from self.text_until((">",))).strip())
        yield from self.space()
        if (yield from self.peek(1)) != "{":
            raise Malformed("no object")
        yield from self.json_value(self.argue)
        yield from self.space()
        yield from self.starts_with("</function>")
