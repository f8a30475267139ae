"""Keys and commands; and any text that is only read."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from app.terminal import sanitize
from app.tui.commands import COMMANDS
from app.tui.screens.choose import CSS

KEYS: Final = (
    (
        "Writing",
        (
            ("Enter", "send"),
            ("Ctrl+J, Shift+Enter", "new line"),
            ("Up, Ctrl+Up", "what was written before"),
            ("/  @", "commands, files; Tab completes"),
            ("Esc", "stop the answer"),
            ("Tab", "to the messages, and back"),
        ),
    ),
    (
        "Messages",
        (
            ("Up Down, k j", "message above, below"),
            ("e  r", "edit the question, answer again: branches"),
            ("Left Right", "the branch beside"),
            ("c  y", "copy the message, its code"),
            ("q", "quote in the editor"),
            ("t", "thoughts: unfold, fold"),
            ("x", "delete it and what follows"),
        ),
    ),
    (
        "Everywhere",
        (
            ("F1 F2 F3 F4", "help, history, models, settings"),
            ("F5 Ctrl+T", "answer again, branches"),
            ("Ctrl+N", "new chat"),
            ("Ctrl+P", "palette: everything by name"),
            ("Ctrl+C", "copy what is selected, or stop"),
            ("Ctrl+Z", "suspend; fg comes back"),
            ("Ctrl+Q", "leave"),
        ),
    ),
)


class Show(ModalScreen[None]):
    """A text with a title."""

    DEFAULT_CSS = (
        CSS + "Show VerticalScroll { margin: 1 0 0 0; height: auto; max-height: 60vh; }\n"
        "Show VerticalScroll > Static { height: auto; }\n"
    )
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,q,f1", "leave", "Close")]

    def __init__(self, title: str, said: str | Text) -> None:
        super().__init__()
        self._title, self._said = title, said

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Text(sanitize(self._title)), classes="title")
            with VerticalScroll():
                yield Static(Text(sanitize(self._said)) if isinstance(self._said, str) else self._said)
            yield Static("Esc closes   Arrows scroll", classes="keys")

    def action_leave(self) -> None:
        """Back to where one was."""
        self.dismiss(None)


class Help(Show):
    """Keys and commands."""

    def __init__(self) -> None:
        super().__init__("Keys and commands", help_text())


def help_text() -> Text:
    """All keys, then all commands."""
    text = Text()
    for title, keys in KEYS:
        text.append(f"{title}\n", "bold")
        for key, does in keys:
            text.append(f"  {key:<22}", "bold dim").append(f"{does}\n")
        text.append("\n")
    text.append("Commands\n", "bold")
    for command in COMMANDS:
        name = f"/{command.name} {command.argument}".strip()
        text.append(f"  {name:<22}", "bold dim").append(f"{command.help}\n")
    return text
