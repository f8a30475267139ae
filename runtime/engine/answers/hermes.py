"""Hermes, Qwen 2.5 and 3, and every template that writes ``<tool_call>`` around JSON."""

from __future__ import annotations

from runtime.engine.answers.parser import Parser, Steps

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class Hermes(Parser):
    """``<tool_call>\\n{"name": ..., "arguments": {...}}\\n</tool_call>``, several after each other."""

    shown = (OPEN, CLOSE)

    def parse(self) -> Steps:
        markers = (OPEN,) if self.tools else ()
        while (yield from self.until(markers, self.say)) is not None:
            if (yield from self.call(OPEN, self.json_call())):
                yield from self.close()

    def close(self) -> Steps:
        """Take the end of a block, which some models forget, and the space behind it."""
        yield from self.space()
        yield from self.starts_with(CLOSE)
        yield from self.space()
