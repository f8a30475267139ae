"""A model that is being fetched and made: what is under way, and what becomes of each layer."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from app.cli.text import format_duration
from app.terminal import sanitize
from app.tui.making import Making, Stopped
from app.tui.making_view import making_text
from app.tui.palette import palette_of
from app.tui.screens.choose import confirm
from app.tui.screens.reporting import Reporting
from app.tui.sources import Work
from runtime.units import format_bytes

REDRAW_SECONDS = 0.15
MEASURE_SECONDS = 1.0
KEPT = "What was fetched and finished is kept; the same choice goes on with it."


class MakingModel(Reporting, Screen[str | None]):
    """The name of the model when it is there; None where it failed or was stopped, which is said."""

    CSS_PATH = "making.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Stop", key_display="Esc")]

    def __init__(self, name: str, source: Work) -> None:
        super().__init__()
        self._model, self._source = name, source
        self.making = Making()
        self._began = time.monotonic()
        self._memory = ""

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        with VerticalScroll(id="body"):
            yield Static(id="steps")
        yield Static(id="room")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.set_interval(REDRAW_SECONDS, self._redraw)
        self.set_interval(MEASURE_SECONDS, self._measure)
        self._redraw()
        self._measure()
        self.make()

    @work(group="make", exit_on_error=False)
    async def make(self) -> None:
        """Does the work, in a thread."""
        try:
            name = await asyncio.to_thread(self._run)
        except Stopped:
            self.app.notify(f"Stopped. {KEPT}")
            self.dismiss(None)
        except Exception as error:  # a bug in localq too: else the screen would wait for ever
            self.app.fail(error)
            self.dismiss(None)
        else:
            self.dismiss(name)

    def _run(self) -> str:
        self.app.host.unload()  # what is planned for the memory shall have all of it
        return self._source(self.making)

    def _redraw(self) -> None:
        width = max(40, self.query_one("#body").size.width - 3)
        self.query_one("#steps", Static).update(making_text(self.making, width, palette_of(self.app)))
        since = format_duration(time.monotonic() - self._began)
        title = Text(no_wrap=True, overflow="ellipsis")
        title.append(f"Making {sanitize(self._model, newlines=False)}", "bold").append(f"  {since}", "dim")
        self.query_one("#title", Static).update(title)

    @work(group="measure", exclusive=True, exit_on_error=False)
    async def _measure(self) -> None:
        room = await asyncio.to_thread(_room, self.app.host.store.home)
        self.query_one("#room", Static).update(Text(room))

    @work(group="leave", exclusive=True, exit_on_error=False)
    async def action_leave(self) -> None:
        """Stops the work after a question."""
        if await self.app.push_screen_wait(confirm("Stop making this model?", KEPT, "Stop")) == 1:
            self.making.stop = True


def _room(home: object) -> str:
    """Memory of this program and what it started, and room on the disk."""
    from pathlib import Path

    import psutil

    from app.store import disk

    me = psutil.Process()
    used = 0
    for process in (me, *me.children(recursive=True)):
        try:
            used += process.memory_info().rss
        except psutil.Error:
            continue
    assert isinstance(home, Path)
    free = format_bytes(disk.free_bytes(home))
    return f"memory {format_bytes(used)} in use  ·  disk {free} free"
