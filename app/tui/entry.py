"""One turn of a chat as lines: who speaks, what was thought, what was said, how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from app.chats import Message, State
from app.terminal import Sanitizer, sanitize
from app.tui.calls import CallSplitter, name_of
from app.tui.markdown import Document, Line, Span
from app.tui.markdown.lines import BLANK, Margin, wrap
from runtime.units import format_bytes

MOST_WIDTH: Final = 100
"""Longer lines are hard to read."""

ENDS: Final[dict[State, str]] = {
    "done": "",
    "stopped": "stopped",
    "length": "the limit of tokens is reached: /continue goes on",
    "failed": "failed: F5 tries again",
    "writing": "interrupted: F5 tries again, /continue goes on",
}


@dataclass
class Entry:
    """A message on the screen. Texts are made harmless here, also while they grow."""

    message_id: int
    role: str
    model: str = ""
    place: tuple[int, int] = (1, 1)
    """Which of how many in the same place of the chat."""
    attachments: tuple[tuple[str, int], ...] = ()
    """Names and bytes."""
    state: State = "done"
    live: bool = False
    """Being written right now, by this program."""
    facts: str = ""
    """What is said beside the name: speed, time."""
    note: str = ""
    """What is said below: an error."""
    skipped: bool = False
    """Left out of what the model is given."""
    open_thoughts: bool = False
    """Whether thoughts and tool calls are unfolded."""
    calls: list[str] = field(default_factory=list)
    """Tool calls, as the model wrote them."""
    copied: int = 0
    """The code block that was copied last."""
    content: Document = field(default_factory=Document)
    thoughts: Document | None = None
    thought_characters: int = 0
    exact: bool = False
    """Whether ``height`` is that at the present width, or an estimate."""
    height: int = 0
    _characters: int = 0
    _lines: tuple[int, list[Line]] | None = None
    _before: tuple[int, list[Line]] | None = None
    """What ``_lines`` was before the last change."""
    _content_safe: Sanitizer = field(default_factory=Sanitizer)
    _thoughts_safe: Sanitizer = field(default_factory=Sanitizer)
    _splitter: CallSplitter | None = None
    """None for what a person wrote: there it is text."""
    _fold_rows: frozenset[int] = frozenset()

    @classmethod
    def of(cls, message: Message, place: tuple[int, int] = (1, 1), facts: str = "") -> Entry:
        """A stored message."""
        entry = cls(
            message.id,
            message.role,
            sanitize(message.model or "", newlines=False),
            place,
            tuple((sanitize(file.name, newlines=False), len(file.text)) for file in message.attachments),
            message.state,
            facts=facts,
        )
        entry.think(message.thinking)
        entry.say(message.content)
        entry.end()
        return entry

    def say(self, text: str) -> None:
        """More of what is said."""
        if text:
            self._characters += len(text)
            self._put(self._content_safe.feed(text))
            self.changed()

    def think(self, text: str) -> None:
        """More of what is thought."""
        if text:
            self.thought_characters += len(text)
            self.thoughts = self.thoughts or Document()
            self.thoughts.append(self._thoughts_safe.feed(text))
            self.changed()

    def end(self) -> None:
        """Nothing more comes; what was held back is shown."""
        self._put(self._content_safe.flush(), last=True)
        if self.thoughts is not None:
            self.thoughts.append(self._thoughts_safe.flush())
        self.changed()

    def _put(self, safe: str, *, last: bool = False) -> None:
        if self.role == "user":
            self.content.append(safe)
            return
        self._splitter = self._splitter or CallSplitter()
        parts = self._splitter.feed(safe)
        for part in [*parts, *(self._splitter.flush() if last else ())]:
            if part.begins:
                self.calls.append("")
            if part.kind == "said":
                self.content.append(part.text)
            else:
                self.calls[-1] += part.text

    def changed(self) -> None:
        """Something of it is other than it was drawn."""
        if self._lines is not None:
            self._before = self._lines
        self._lines = None
        self.exact = False

    def estimate(self, width: int) -> int:
        """About how many lines it takes, without drawing it."""
        return 3 + len(self.attachments) + self._characters // max(1, min(width, MOST_WIDTH) - 8)

    def lines(self, width: int) -> list[Line]:
        """All of its lines, a blank one at the end."""
        if self._lines is None or self._lines[0] != width:
            self._lines = (width, self._draw(min(width, MOST_WIDTH)))
        return self._lines[1]

    def first_change(self, width: int) -> int:
        """The first of its lines that is now other than it was when it was drawn last."""
        if self._before is None or self._before[0] != width:
            return 0
        before = self._before[1]
        now = self.lines(width)
        return next(
            (
                at
                for at, (old, new) in enumerate(zip(before, now, strict=False))
                if old is not new and old != new
            ),
            min(len(before), len(now)),
        )

    def forget_picture(self, name: str | None) -> bool:
        """Draw this one again, or all of them, for they are others now; whether it has any."""
        has = self.content.forget_picture(name)
        if has:
            self.changed()
        return has

    def forget_lines(self) -> None:
        """Gives their memory back; the height stays."""
        self._lines = self._before = None

    def _draw(self, width: int) -> list[Line]:
        lines = [Line((*self._heading(),))]
        folds = []
        if self.thoughts is not None:
            folds.append(len(lines))
            lines += self._thought_lines(width)
        lines += self.content.lines(width)
        for call in self.calls:
            folds.append(len(lines))
            lines += self._call_lines(call, width)
        self._fold_rows = frozenset(folds)
        if self.live and not self._characters and self.thoughts is None:
            lines.append(Line((Span("…", "meta"),)))
        for name, size in self.attachments:
            lines.append(Line((Span(f"+ {name} ", "attachment"), Span(format_bytes(size), "meta"))))
        if self.note:
            lines += wrap([Span(sanitize(self.note), "warning")], width, Margin())
        elif not self.live and ENDS[self.state]:
            lines.append(Line((Span(f"({ENDS[self.state]})", "meta"),)))
        lines.append(BLANK)
        return lines

    def _heading(self) -> Sequence[Span]:
        name = Span("You", "you") if self.role == "user" else Span(self.model or "Model", "model")
        spans = [name]
        number, count = self.place
        if count > 1:
            spans.append(Span(f"  ‹ {number}/{count} ›", "branch"))
        if self.skipped:
            spans.append(Span("  not sent: the context is too short for it", "warning"))
        elif self.facts:
            spans.append(Span(f"  {self.facts}", "meta"))
        return spans

    def _thought_lines(self, width: int) -> list[Line]:
        assert self.thoughts is not None
        sign = "▾" if self.open_thoughts else "▸"
        busy = self.live and not self._characters
        words = "Thinking…" if busy else "Thoughts"
        lines = [Line((Span(f"{sign} {words} ({self.thought_characters:,} characters)", "thoughts-head"),))]
        if self.open_thoughts:
            bar = Span("┊ ", "thoughts-head")
            for line in self.thoughts.lines(width - 2):
                spans = (bar, *(Span(text, f"thoughts {style}".strip()) for text, style in line.spans))
                lines.append(Line(spans, line.joint, None, line.margin + 2))
            lines.append(BLANK)
        return lines

    def _call_lines(self, call: str, width: int) -> list[Line]:
        sign = "▾" if self.open_thoughts else "▸"
        name = sanitize(name_of(call), newlines=False)
        head = Span(f"{sign} {f'Tool call {name}'.rstrip()} ({len(call):,} characters)", "thoughts-head")
        lines = [Line((head,))]
        if self.open_thoughts:
            bar = (Span("┊ ", "thoughts-head"),)
            lines += wrap([Span(call.strip(), "thoughts")], width, Margin(bar, bar))
        return lines

    def folds_at(self, row: int) -> bool:
        """Whether a click on this line folds and unfolds."""
        return row in self._fold_rows

    @property
    def folded(self) -> bool:
        """Whether there is anything to unfold."""
        return self.thoughts is not None or bool(self.calls)
