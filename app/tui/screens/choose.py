"""Small questions: one of several, yes or no, a line of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from app.terminal import sanitize

CSS = """
Choose, Ask, Show { align: center middle; background: $background 60%; }
Choose > Vertical, Ask > Vertical, Show > Vertical {
    width: 76; max-width: 95%; height: auto; max-height: 90%;
    padding: 1 2; background: $surface; border: round $primary;
}
Choose .title, Ask .title, Show .title { text-style: bold; color: $text-primary; }
Choose .said, Ask .said { margin: 1 0 0 0; height: auto; }
Choose OptionList {
    margin: 1 0 0 0; height: auto; max-height: 14; border: none; padding: 0; background: $surface;
}
Ask Input { margin: 1 0 0 0; }
Ask .wrong { color: $text-error; height: auto; }
Choose .keys, Ask .keys, Show .keys { margin: 1 0 0 0; color: $text-muted; }
"""


class Choose(ModalScreen[int | None]):
    """One of several; None where the person leaves. Digits choose too."""

    DEFAULT_CSS = CSS
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave")]

    def __init__(self, title: str, said: str, options: Sequence[str], *, at: int = 0) -> None:
        super().__init__()
        self._title, self._said, self._options, self._at = title, said, options, at

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(sanitize(self._title)), classes="title")
            if self._said:
                yield Static(Text(sanitize(self._said)), classes="said")
            yield OptionList(
                *(
                    Option(Text(f"{number}  {sanitize(option, newlines=False)}"))
                    for number, option in enumerate(self._options, 1)
                ),
                compact=True,
            )
            yield Static("Enter chooses   Esc leaves", classes="keys")

    def on_mount(self) -> None:
        listed = self.query_one(OptionList)
        listed.highlighted = self._at if self._options else None
        listed.focus()

    def on_key(self, event: object) -> None:
        key = getattr(event, "key", "")
        if len(key) == 1 and key.isdecimal() and 0 < int(key) <= len(self._options):
            self.dismiss(int(key) - 1)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(event.option_index)

    def action_leave(self) -> None:
        """Nothing is chosen."""
        self.dismiss(None)


class Ask(ModalScreen[str | None]):
    """A line of text; None where the person leaves."""

    DEFAULT_CSS = CSS
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave")]

    def __init__(self, title: str, said: str = "", value: str = "", placeholder: str = "") -> None:
        super().__init__()
        self._title, self._said, self._value, self._placeholder = title, said, value, placeholder

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(sanitize(self._title)), classes="title")
            if self._said:
                yield Static(Text(sanitize(self._said)), classes="said")
            yield Input(sanitize(self._value, newlines=False), placeholder=self._placeholder)
            yield Static("Enter takes it   Esc leaves", classes="keys")

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value)

    def action_leave(self) -> None:
        """Nothing is taken."""
        self.dismiss(None)


def confirm(title: str, said: str, yes: str) -> Choose:
    """A question whose first answer, that Enter gives, changes nothing; the second is 1."""
    return Choose(title, said, ["No, leave it as it is", yes])
