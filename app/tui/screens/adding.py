"""Getting a model: the first thing on a new machine, and the way to another one later."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, OptionList, ProgressBar, Static
from textual.widgets.option_list import Option

from app.terminal import sanitize
from app.tui.machine import Facts, facts_text, look
from app.tui.screens.reporting import Reporting
from app.tui.sources import SOURCES, Source, Work
from runtime.errors import LocalqError
from runtime.units import format_bytes

if TYPE_CHECKING:
    from app.store import Manifest

REDRAW_SECONDS = 0.1


class Stopped(LocalqError):
    """The person left while a model was being fetched."""


class Adding(Reporting, Screen[str | None]):
    """The name of the model that was added; None where the person leaves. ``first``: there is none yet."""

    CSS_PATH = "adding.tcss"
    AUTO_FOCUS = "#sources"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back", key_display="Esc")]

    def __init__(self, *, first: bool = False) -> None:
        super().__init__()
        self._first = first
        self._facts: Facts | None = None
        self._done = self._total = 0
        self._began = 0.0
        self._busy = self._stop = False

    def compose(self) -> ComposeResult:
        yield Static(Text("Welcome to localq" if self._first else "Add a model", "bold"), id="title")
        with VerticalScroll(id="body"):
            yield Static("Looking at this machine…", id="facts")
            yield Static(Text("Where shall the model come from?", "bold"), id="question")
            yield OptionList(*map(_option, SOURCES), id="sources")
            yield Static(id="doing")
            yield ProgressBar(id="bar", show_eta=False)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#sources", OptionList).highlighted = 0
        self.query_one(ProgressBar).display = False
        self._look()
        self.set_interval(REDRAW_SECONDS, self._redraw)

    @work(group="look", exit_on_error=False)
    async def _look(self) -> None:
        self._facts = await asyncio.to_thread(look, self.app.settings, self.app.host.store.home)
        self.query_one("#facts", Static).update(facts_text(self._facts))

    @on(OptionList.OptionSelected, "#sources")
    def _selected(self, event: OptionList.OptionSelected) -> None:
        if not self._busy:
            self.get_from(SOURCES[event.option_index])

    @work(group="get", exclusive=True, exit_on_error=False)
    async def get_from(self, source: Source) -> None:
        """Asks what the source needs, and gets the model."""
        try:
            work = await source.ask(self.app)
            if work is None:
                return
            self._busy, self._stop, self._began = True, False, time.monotonic()
            self._done = self._total = 0
            manifest = await asyncio.to_thread(self._run, work)
        except Stopped:
            self._end("Stopped; nothing was stored.")
            return
        except LocalqError as error:
            self._end("")
            self.app.fail(error)
            return
        self._busy = False
        self.dismiss(manifest.name)

    def _run(self, work: Work) -> Manifest:
        return work(self._advance)

    def _advance(self, done: int, total: int) -> None:
        """In the thread that works."""
        self._done, self._total = done, total
        if self._stop:
            raise Stopped("stopped")

    def _redraw(self) -> None:
        if not self._busy:
            return
        bar = self.query_one(ProgressBar)
        bar.display = True
        bar.update(total=self._total or None, progress=self._done)
        seconds = max(0.001, time.monotonic() - self._began)
        said = f"{format_bytes(self._done)} of {format_bytes(self._total)}" if self._total else "Beginning…"
        if self._done and seconds > 1:
            speed = self._done / seconds
            left = (self._total - self._done) / speed
            said += f"  {format_bytes(int(speed))}/s  {left:.0f} s left"
        self.query_one("#doing", Static).update(Text(said))

    def _end(self, said: str) -> None:
        self._busy = False
        self.query_one(ProgressBar).display = False
        self.query_one("#doing", Static).update(Text(said))

    def action_leave(self) -> None:
        """Stops what is under way, or goes back."""
        if self._busy:
            self._stop = True
        else:
            self.dismiss(None)


def _option(source: Source) -> Option:
    return Option(Text.assemble((f"{source.title}\n", "bold"), (f"  {sanitize(source.help)}", "dim")))
