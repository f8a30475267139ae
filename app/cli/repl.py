"""The plain chat: a line in, an answer out, until Ctrl-D. It survives a failed answer and a dead worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.cli.answer import Answer, AnswerOptions, begin, collect, statistics
from app.cli.errors import report
from app.cli.front import EngineLike, Front
from app.cli.interrupt import NoReaction
from app.cli.keeping import Keeper
from app.cli.lines import read_prompt
from app.cli.output import Fields
from runtime.errors import LocalqError, PromptTooLong

PATIENCE_SECONDS = 2.0
"""How long the engine may take to stop an answer before another Ctrl-C leaves the chat."""

HELP = (
    ("/help", "show this"),
    ("/clear", "forget the conversation, keep the system prompt"),
    ("/system [TEXT]", "show the system prompt, or set it and forget the conversation"),
    ("/stats", "tokens and speed of the last answer, and how full the context is"),
    ("/bye", "leave (also Ctrl-D)"),
    ("Ctrl-C", "stop the answer, or drop the line; where nothing reacts to it, again: leave"),
    ("\\ at the end", "go on in the next line"),
    ('"""', "begin and end a prompt of several lines"),
)


@dataclass
class Repl:
    """One conversation. ``read`` gives lines as :class:`app.cli.lines.LineReader` does."""

    front: Front
    engine: EngineLike
    options: AnswerOptions
    read: Callable[[str], str]
    context_tokens: int
    system: str | None = None
    show_statistics: bool = False
    turns: list[dict[str, Any]] = field(default_factory=list)
    last: Answer | None = None
    keeper: Keeper = field(default_factory=Keeper)

    def run(self) -> None:
        """Chat until the person leaves."""
        out = self.front.out
        out.note("Type a prompt. /help lists the commands; Ctrl-D leaves.")
        while True:
            try:
                line = read_prompt(self.read)
            except EOFError:
                out.note("")
                return
            except KeyboardInterrupt:
                out.note("\n(Ctrl-D or /bye leaves)")
                continue
            try:
                if not self._turn(line):
                    return
            except NoReaction:
                raise
            except KeyboardInterrupt:
                # Before the answer began or after it ended: there is nothing left to stop.
                if self.turns and self.turns[-1]["role"] == "user":
                    self.turns.pop()
                out.note("\n(stopped; Ctrl-D or /bye leaves)")

    def _turn(self, line: str) -> bool:
        """What follows from a line; False to leave."""
        if line.startswith("/"):
            return self._command(line)
        if line.strip():
            self._ask(line)
        return True

    def _command(self, line: str) -> bool:
        """Do what a line with a slash says; False to leave."""
        out = self.front.out
        name, _, rest = line.partition(" ")
        match name:
            case "/bye" | "/exit" | "/quit":
                return False
            case "/help":
                out.tell(Fields(HELP))
            case "/clear":
                self._forget()
                out.tell("The conversation is forgotten.")
            case "/system":
                self._system(rest.strip())
            case "/stats":
                out.tell(*self._statistics())
            case _:
                out.tell(f"There is no command {name}; /help lists them. Begin with a space to send it.")
        return True

    def _ask(self, line: str) -> None:
        out = self.front.out
        self.turns.append({"role": "user", "content": line})
        self.keeper.asked(line, self.system)
        try:
            with out.progress("reading the prompt") as progress, out.stream() as stream:
                answer = collect(
                    lambda: begin(self.engine, self.system, self.turns, self.options),
                    stream.feed,
                    progress,
                    patience_seconds=PATIENCE_SECONDS,
                    announce=_announce,
                )
        except LocalqError as error:
            self.turns.pop()
            if isinstance(error, PromptTooLong) and self.turns:
                out.tell("/clear forgets the conversation and makes room.")
            report(error, self.front)
            return
        self.last = answer
        if answer.text:
            self.keeper.answered(answer)
            self.turns.append({"role": "assistant", "content": answer.text})
        else:
            self.turns.pop()
        self._comment(answer)

    def _comment(self, answer: Answer) -> None:
        out = self.front.out
        if answer.cancelled:
            out.note("(stopped)")
        elif answer.finished.reason == "length" and answer.used_tokens() >= self.context_tokens:
            out.note(f"(the context of {self.context_tokens} tokens is full; /clear makes room)")
        elif answer.finished.reason == "length":
            out.note("(stopped at --max-tokens)")
        if self.show_statistics:
            out.tell(statistics(answer))

    def _system(self, text: str) -> None:
        out = self.front.out
        if self.options.raw:
            out.tell("With --raw there is no template, so there is no system prompt.")
        elif not text:
            out.tell(self.system or "There is no system prompt; /system TEXT sets one.")
        else:
            self.system = text
            self._forget()
            out.tell("The system prompt is set, the conversation forgotten.")

    def _statistics(self) -> tuple[str, ...]:
        if self.last is None:
            return ("There was no answer yet.",)
        used = self.last.used_tokens()
        return (
            statistics(self.last),
            f"context {used} of {self.context_tokens} tokens ({used / self.context_tokens:.0%})",
        )

    def _forget(self) -> None:
        self.turns.clear()
        self.last = None
        self.keeper.forget()


def _announce() -> None:
    """In a signal handler, where the buffered streams may be in the middle of a write."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\n(stopping; Ctrl-C later again leaves)\n")
