"""How answers are made and the model is loaded; says when a change loads it anew, and what that takes."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import msgspec
from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from app.tui.host import Host, Wanted
from app.tui.preferences import PARAMETERS, Preferences
from app.tui.screens.reporting import Reporting
from runtime.errors import LocalqError
from runtime.units import format_bytes


class Parameters(Reporting, ModalScreen[Preferences | None]):
    """The preferences that are chosen; None where the person leaves."""

    CSS_PATH = "parameters.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave"),
        Binding("ctrl+s,f4", "take", "Take"),
        Binding("ctrl+r", "reset", "Defaults"),
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def __init__(self, preferences: Preferences, host: Host, model: str | None) -> None:
        super().__init__()
        self._preferences = preferences
        self._host = host
        self._model = model

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static("Settings of this chat", classes="title")
            with VerticalScroll(), Grid():
                for parameter in PARAMETERS:
                    value = getattr(self._preferences, parameter.name)
                    mark = " ↻" if parameter.reloads else ""
                    yield Static(Text(f"{parameter.title}{mark}"), classes="name")
                    yield Input(
                        "" if value is None else f"{value:g}" if isinstance(value, float) else str(value),
                        placeholder=parameter.default,
                        id=parameter.name,
                        compact=True,
                    )
                    yield Static(Text(parameter.help), classes="help")
            yield Static(id="verdict")
            yield Static("Enter takes them   Esc leaves   Ctrl+R defaults   ↻ loads it again", classes="keys")

    def on_mount(self) -> None:
        self.query_one(f"#{PARAMETERS[0].name}", Input).focus()
        self.judge()

    def read(self) -> Preferences:
        """What is typed. Raises ValueError."""
        changes: dict[str, Any] = {
            parameter.name: parameter.parse(self.query_one(f"#{parameter.name}", Input).value)
            for parameter in PARAMETERS
        }
        return msgspec.structs.replace(self._preferences, **changes)

    @on(Input.Changed)
    def _changed(self) -> None:
        self.judge()

    @work(group="judge", exclusive=True, exit_on_error=False)
    async def judge(self) -> None:
        """Says what is wrong, or what a change of the load would take."""
        verdict = self.query_one("#verdict", Static)
        try:
            chosen = self.read()
        except ValueError as error:
            verdict.update(Text(str(error), "red"))
            return
        before = self._preferences
        loads = (chosen.context, chosen.kv, chosen.threads) != (before.context, before.kv, before.threads)
        if not loads or self._model is None:
            verdict.update(
                Text("The next answer follows them; nothing is loaded again." if chosen != before else "")
            )
            return
        await asyncio.sleep(0.2)
        try:
            plan = await asyncio.to_thread(
                self._host.plan, Wanted(self._model, chosen.context, chosen.kv, chosen.threads)
            )
        except LocalqError as error:
            verdict.update(Text(str(error).splitlines()[0], "red"))
            return
        held = self._host.loaded.plan.total if self._host.loaded is not None else 0
        available = plan.available + held
        said = (
            f"The model is loaded again: {format_bytes(plan.total)} with a context of "
            f"{plan.config.context_tokens:,} tokens, {format_bytes(available)} are available."
        )
        verdict.update(Text(said, "" if plan.total <= available else "red"))

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.action_take()

    def action_take(self) -> None:
        """These from now on."""
        try:
            self.dismiss(self.read())
        except ValueError as error:
            self.notify(str(error), severity="error", markup=False)

    def action_reset(self) -> None:
        """All as the model and localq have it."""
        for parameter in PARAMETERS:
            self.query_one(f"#{parameter.name}", Input).value = ""

    def action_leave(self) -> None:
        """As they were."""
        self.dismiss(None)
