"""Texts that a person keeps: personas, which are system prompts, and templates of messages."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final, Literal

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static, TextArea
from textual.widgets.option_list import Option

from app.chats import Chats, Prompt
from app.terminal import sanitize
from app.tui.screens.reporting import Reporting
from runtime.errors import LocalqError

Kind = Literal["persona", "template"]
TITLES: Final = {"persona": "Personas", "template": "Prompt templates"}
BEGINNING: Final = {
    "persona": (
        Prompt(kind="persona", name="Brief", text="Answer briefly and exactly. No preamble."),
        Prompt(kind="persona", name="Teacher", text="Explain step by step, with an example for each step."),
        Prompt(kind="persona", name="Reviewer", text="Review what I send: list mistakes first, then advice."),
    ),
    "template": (
        Prompt(kind="template", name="Summarise", text="Summarise the following in five points:\n\n"),
        Prompt(kind="template", name="Explain code", text="Explain what this code does, line by line:\n\n"),
    ),
}
"""Offered until the person keeps some of their own."""


class Prompts(Reporting, ModalScreen[Prompt | None]):
    """The text that is chosen; None where the person leaves. ``text`` is offered to be kept."""

    CSS_PATH = "prompts.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave"),
        Binding("ctrl+s", "keep", "Keep"),
        Binding("ctrl+d", "forget", "Delete", priority=True),
    ]

    def __init__(self, kind: Kind, chats: Chats, text: str) -> None:
        super().__init__()
        self._kind: Kind = kind
        self._chats = chats
        self._text = text
        self._prompts: list[Prompt] = []

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(TITLES[self._kind], classes="title")
            yield OptionList(id="prompts", compact=True)
            yield Input(placeholder="Name", id="name", compact=True)
            yield TextArea(self._text, id="text", compact=True)
            yield Static(
                "Enter uses it   Tab to name and text   Ctrl+S keeps   Ctrl+D deletes   Esc leaves",
                classes="keys",
            )

    def on_mount(self) -> None:
        self.query_one("#prompts").focus()
        self.refresh_prompts()

    @work(group="prompts", exclusive=True, exit_on_error=False)
    async def refresh_prompts(self, keep: str = "") -> None:
        """The list anew, with the cursor on the one named ``keep``."""
        kept = list(await asyncio.to_thread(self._chats.prompts, self._kind))
        self._prompts = kept or list(BEGINNING[self._kind])
        listed = self.query_one("#prompts", OptionList)
        listed.clear_options()
        listed.add_options([Option(_row(prompt)) for prompt in self._prompts])
        names = [prompt.name for prompt in self._prompts]
        listed.highlighted = names.index(keep) if keep in names else 0

    def _current(self) -> Prompt | None:
        at = self.query_one("#prompts", OptionList).highlighted
        return self._prompts[at] if at is not None and at < len(self._prompts) else None

    @on(OptionList.OptionHighlighted)
    def _highlighted(self) -> None:
        if (prompt := self._current()) is not None and self.query_one("#prompts").has_focus:
            self.query_one("#name", Input).value = prompt.name
            self.query_one("#text", TextArea).load_text(prompt.text)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(self._current())

    @on(Input.Submitted)
    async def _named(self) -> None:
        await self.action_keep()

    async def action_keep(self) -> None:
        """Keeps the text under the name."""
        name, text = self.query_one("#name", Input).value.strip(), self.query_one("#text", TextArea).text
        if not name or not text.strip():
            self.notify("Give it a name and a text.", severity="warning")
            return
        try:
            await asyncio.to_thread(self._chats.keep_prompt, Prompt(kind=self._kind, name=name, text=text))
        except LocalqError as error:
            self.app.fail(error)
            return
        self.query_one("#prompts").focus()
        self.refresh_prompts(name)

    async def action_forget(self) -> None:
        """Deletes the one under the cursor."""
        if (prompt := self._current()) is not None:
            empty = Prompt(kind=self._kind, name=prompt.name, text="")
            await asyncio.to_thread(self._chats.keep_prompt, empty)
            self.refresh_prompts()

    def action_leave(self) -> None:
        """None of them."""
        self.dismiss(None)


def _row(prompt: Prompt) -> Text:
    said = " ".join(prompt.text.split())
    return Text.assemble(
        (f"{sanitize(prompt.name, newlines=False)}  ", "bold"),
        (sanitize(said[:200], newlines=False), "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )
