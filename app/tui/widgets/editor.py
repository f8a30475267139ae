"""Where the person writes: several lines, what was written before, pastes of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from app.terminal import sanitize

LONG_PASTE: Final = 4000
LONG_PASTE_LINES: Final = 40
"""A longer paste becomes an attachment: it would hide everything else."""
NEW_LINE: Final = frozenset({"shift+enter", "alt+enter", "ctrl+j", "ctrl+enter"})


class Editor(TextArea):
    """Enter sends, Shift+Enter or Ctrl+J begins a line. Up in the first line: what was written before."""

    BINDING_GROUP_TITLE = "Writing"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+j", "new_line", "New line", show=False),
        Binding("ctrl+up", "earlier", "Written before", show=False),
        Binding("ctrl+down", "later", "Written after", show=False),
    ]
    DEFAULT_CSS = """
    Editor {
        height: auto;
        min-height: 3;
        max-height: 10;
        padding: 0 1;
        border: round $border-blurred;
        background: $background;
        &:focus { border: round $border; }
    }
    """

    @dataclass
    class Submitted(Message):
        """Enter was pressed."""

        text: str

    @dataclass
    class Pasted(Message):
        """Too much was pasted for the editor."""

        text: str

    @dataclass
    class Steered(Message):
        """A key for the list of suggestions."""

        key: str

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id,
            compact=False,
            highlight_cursor_line=False,
            placeholder="Ask something.  / commands   @ files   Ctrl+J new line",
        )
        self.suggesting = False
        """Whether suggestions are shown: they get the arrows, Tab, Enter and Esc."""
        self._written: Sequence[str] = ()
        self._at = -1
        self._aside = ""

    def remember(self, written: Sequence[str]) -> None:
        """What was written before, newest first."""
        self._written, self._at = written, -1

    def put(self, text: str, cursor: tuple[int, int] | None = None) -> None:
        """``text`` in the place of what is there."""
        self.load_text(text)
        self.move_cursor(self.document.end if cursor is None else self.clamp_visitable(cursor))

    async def _on_key(self, event: events.Key) -> None:
        if self.suggesting and event.key in ("up", "down", "tab", "enter", "escape"):
            event.stop()
            event.prevent_default()
            self.post_message(self.Steered(event.key))
        elif event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Submitted(self.text))
        elif event.key in NEW_LINE:
            event.stop()
            event.prevent_default()
            self.action_new_line()
        elif event.key == "up" and self.cursor_at_first_line and (self._at >= 0 or not self.text):
            event.stop()
            event.prevent_default()
            self.action_earlier()
        elif event.key == "down" and self.cursor_at_last_line and self._at >= 0:
            event.stop()
            event.prevent_default()
            self.action_later()

    async def _on_paste(self, event: events.Paste) -> None:
        text = event.text.replace("\r\n", "\n").replace("\r", "\n")
        event.stop()
        event.prevent_default()
        if len(text) > LONG_PASTE or text.count("\n") >= LONG_PASTE_LINES:
            self.post_message(self.Pasted(text))
            return
        if result := self._replace_via_keyboard(sanitize(text), *self.selection):
            self.move_cursor(result.end_location)

    def action_new_line(self) -> None:
        """A line break at the cursor."""
        self._replace_via_keyboard("\n", *self.selection)

    def action_earlier(self) -> None:
        """What was written before this."""
        if self._at + 1 < len(self._written):
            if self._at < 0:
                self._aside = self.text
            self._at += 1
            self.put(sanitize(self._written[self._at]))

    def action_later(self) -> None:
        """What was written after this; at last what was being written now."""
        if self._at >= 0:
            self._at -= 1
            self.put(self._aside if self._at < 0 else sanitize(self._written[self._at]))
