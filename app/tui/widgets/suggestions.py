"""What could be meant by what is being typed, above the editor. The editor keeps the focus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import on
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from app.terminal import sanitize
from app.tui.completing import Suggestion


class Suggestions(OptionList, can_focus=False):
    """A list that is moved in by :meth:`steer`."""

    DEFAULT_CSS = """
    Suggestions {
        display: none;
        height: auto;
        max-height: 8;
        margin: 0 2;
        border: none;
        padding: 0;
        background: $panel;
    }
    """

    @dataclass
    class Chosen(Message):
        """One was taken; ``sent`` if it was with Enter."""

        suggestion: Suggestion
        sent: bool

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, compact=True)
        self.shown: list[Suggestion] = []

    def show(self, suggestions: Sequence[Suggestion]) -> None:
        """These, or none."""
        self.shown = list(suggestions)
        self.display = bool(suggestions)
        self.clear_options()
        if suggestions:
            width = max(len(suggestion.text) for suggestion in suggestions) + 2
            self.add_options([Option(_prompt(suggestion, width)) for suggestion in suggestions])
            self.highlighted = 0

    def steer(self, key: str) -> None:
        """A key that the editor has no use for."""
        if key == "up":
            self.action_cursor_up()
        elif key == "down":
            self.action_cursor_down()
        elif self.highlighted is not None and self.highlighted < len(self.shown):
            self.post_message(self.Chosen(self.shown[self.highlighted], key == "enter"))

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_index < len(self.shown):
            self.post_message(self.Chosen(self.shown[event.option_index], False))


def _prompt(suggestion: Suggestion, width: int) -> Text:
    name = sanitize(suggestion.text, newlines=False)
    if not suggestion.help:
        return Text(name, no_wrap=True, overflow="ellipsis")
    return Text.assemble(name.ljust(width), (suggestion.help, "dim"), no_wrap=True, overflow="ellipsis")
