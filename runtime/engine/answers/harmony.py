"""gpt-oss: messages in channels (https://cookbook.openai.com/articles/openai-harmony)."""

from __future__ import annotations

import re

from runtime.engine.answers.parser import Malformed, Parser, Steps

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>", START)
RECIPIENT = re.compile(r"\bto=(?:functions\.)?([^\s<]+)")
NAME = re.compile(r"(?:<\|channel\|>|^)\s*(analysis|commentary|final)\b")


class Harmony(Parser):
    """``<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...``

    A header that names a recipient is a call; its text are the arguments.
    """

    shown = (START, CHANNEL, MESSAGE, CONSTRAIN, *ENDS)
    thoughts = ("\0", "\0")

    def parse(self) -> Steps:
        while True:
            header: list[str] = []
            found = yield from self.until((MESSAGE,), header.append)
            head = "".join(header)
            if found is None:
                if not re.search(r"<\|(start|channel)\|>", head):
                    self.say(head)  # no channels at all
                return
            recipient = RECIPIENT.search(head)
            channel = NAME.search(head)
            if recipient and recipient[1] != "assistant":
                yield from self.call(head + MESSAGE, self.one_call(recipient[1]))
                yield from self.until(ENDS, lambda _text: None)
            elif channel and channel[1] == "analysis":
                yield from self.until(ENDS, self.think)
            else:
                yield from self.until(ENDS, self.say)

    def one_call(self, name: str) -> Steps:
        """The arguments of a call whose header has been read."""
        self.start_call(name)
        yield from self.space()
        if (yield from self.peek(1)) != "{":
            raise Malformed("no object")
        yield from self.json_value(self.argue)
