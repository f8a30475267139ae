"""DeepSeek: R1 and V3 fence the arguments, V3.1 does not."""

from __future__ import annotations

from runtime.engine.answers.parser import Parser, Steps

BEGIN, END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL, CALL_END, SEPARATOR = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
FENCE = "```json"


class DeepSeek(Parser):
    """Between the markers: ``function<sep>NAME\\n```json\\n{...}\\n``` `` or ``NAME<sep>{...}``."""

    shown = (BEGIN, END, CALL, CALL_END, SEPARATOR)

    def parse(self) -> Steps:
        markers = (BEGIN, CALL) if self.tools else ()
        while (found := (yield from self.until(markers, self.say))) is not None:
            if found == BEGIN:
                yield from self.space()
                yield from self.starts_with(CALL)
            if not (yield from self.call(found, self.one_call())):
                continue
            while (yield from self.another()):
                yield from self.call(CALL, self.one_call())
            yield from self.starts_with(END)
            yield from self.space()

    def another(self) -> Steps:
        """Whether a further call follows; its beginning is taken."""
        yield from self.space()
        yield from self.starts_with(CALL_END)
        yield from self.space()
        return (yield from self.starts_with(CALL))

    def one_call(self) -> Steps:
        """One call, up to the end of its arguments and their fence."""
        name = (yield from self.text_until((SEPARATOR,))).strip()
        yield from self.space()
        if (yield from self.peek(1)) != "{":
            name = (yield from self.text_until(("\n", FENCE))).strip()
            yield from self.space()
            yield from self.starts_with(FENCE)
            yield from self.space()
        self.start_call(name)
        yield from self.json_value(self.argue)
        yield from self.space()
        yield from self.starts_with("```")
