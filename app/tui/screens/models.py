"""The models: how large, how good, how fast; what quantization did to each layer."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from app.terminal import sanitize
from app.tui.catalogue import Details, Row, details_of, list_models
from app.tui.model_view import details_text, header_text, row_text
from app.tui.palette import palette_of
from app.tui.screens.choose import Ask, Choose, confirm
from app.tui.screens.reporting import Reporting
from runtime.errors import LocalqError

WIDTHS: Final = [(0, "-narrow"), (110, "-wide")]


class Models(Reporting, Screen[str | None]):
    """The name of the model that is to answer; None where the person leaves."""

    CSS_PATH = "models.tcss"
    AUTO_FOCUS = "#models"
    HORIZONTAL_BREAKPOINTS = WIDTHS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", key_display="Esc"),
        Binding("ctrl+m", "use", "Use", key_display="Enter"),
        Binding("tab", "switch", "Details", key_display="Tab"),
        Binding("c", "compare", "Compare"),
        Binding("s", "speed", "Speed"),
        Binding("a", "add", "Add"),
        Binding("n", "name", "2nd name"),
        Binding("d,delete", "delete", "Delete", key_display="d"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[Row] = []
        self._measured: dict[str, float] = {}

    def compose(self) -> ComposeResult:
        yield Static(Text("Models", "bold"), id="title")
        with Vertical(id="panes"):
            with Vertical(id="left"):
                yield Static(id="header")
                yield OptionList(id="models")
            with VerticalScroll(id="details"):
                yield Static(id="about")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.refresh_rows()

    @work(group="list", exclusive=True, exit_on_error=False)
    async def refresh_rows(self, keep: str | None = None) -> None:
        """The list anew; the cursor on the model ``keep``, or on the one that is loaded."""
        try:
            self._rows, damaged = await asyncio.to_thread(list_models, self.app.host.store, self.app.chats)
        except LocalqError as error:
            self.app.fail(error)
            return
        loaded = self.app.host.loaded
        keep = keep or (loaded.name if loaded is not None else None)
        listed = self.query_one("#models", OptionList)
        listed.clear_options()
        width, name = self.size.width - 4, loaded.name if loaded is not None else None
        self.query_one("#header", Static).update(header_text(width))
        listed.add_options([Option(row_text(row, row.manifest.name == name, width)) for row in self._rows])
        names = [row.manifest.name for row in self._rows]
        listed.highlighted = (names.index(keep) if keep in names else 0) if names else None
        if not names:
            self.query_one("#about", Static).update(Text("No models yet. Press a to add one."))
        for said in damaged:
            self.notify(sanitize(said), severity="warning", markup=False, timeout=10)

    def current(self) -> Row | None:
        """The model under the cursor."""
        at = self.query_one("#models", OptionList).highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    @on(OptionList.OptionHighlighted, "#models")
    def _highlighted(self) -> None:
        self.show_details()

    def on_resize(self) -> None:
        row = self.current()
        self.refresh_rows(row.manifest.name if row is not None else None)

    @work(group="details", exclusive=True, exit_on_error=False)
    async def show_details(self) -> None:
        """The certificate and the chart of the model under the cursor."""
        row = self.current()
        if row is None:
            return
        await asyncio.sleep(0.05)
        details = await asyncio.to_thread(details_of, row, self.app.host.store, self.app.settings)
        self._show(details)

    def _show(self, details: Details) -> None:
        about = self.query_one("#about", Static)
        width = max(40, self.query_one("#details").size.width - 3)
        measured = self._measured.get(details.row.manifest.name)
        about.update(details_text(details, width, measured, palette_of(self.app)))

    # -- keys -----------------------------------------------------------------------------------------------

    @on(OptionList.OptionSelected, "#models")
    def _selected(self) -> None:
        self.action_use()

    def action_use(self) -> None:
        """The model under the cursor answers from now on."""
        if (row := self.current()) is not None:
            self.dismiss(row.manifest.name)

    def action_leave(self) -> None:
        """Back to the chat, with the same model."""
        self.dismiss(None)

    def action_switch(self) -> None:
        """From the list to the details, and back."""
        listed = self.query_one("#models", OptionList)
        (self.query_one("#details") if listed.has_focus else listed).focus()

    def action_compare(self) -> None:
        """This model beside another."""
        from app.tui.screens.compare import Compare

        row = self.current()
        if row is not None:
            self.app.push_screen(Compare(row.manifest.name, ""))

    @work(group="dialog", exit_on_error=False)
    async def action_speed(self) -> None:
        """Measures how fast the model writes here."""
        from app.cli.speed import measure_speed

        row = self.current()
        if row is None:
            return
        name = row.manifest.name
        chat = self.app.chat_screen
        if chat is not None and chat.answering is not None:
            self.notify(
                "An answer is being written, which would disturb the measurement.", severity="warning"
            )
            return
        self.notify(f"Measuring {name}: a few seconds.", markup=False)
        try:
            paths = await asyncio.to_thread(self.app.host.store.paths, row.manifest)
            speed = await asyncio.to_thread(measure_speed, self.app.front, self.app.settings, paths)
        except LocalqError as error:
            self.app.fail(error)
            return
        if speed is None:
            self.notify("It does not fit beside what is loaded, or cannot be run.", severity="warning")
            return
        self._measured[name] = speed.decode_tokens_per_second
        self.show_details()

    @work(group="dialog", exit_on_error=False)
    async def action_add(self) -> None:
        """Another model."""
        from app.tui.screens.adding import Adding

        added = await self.app.push_screen_wait(Adding())
        if added is not None:
            self.refresh_rows(added)

    @work(group="dialog", exit_on_error=False)
    async def action_name(self) -> None:
        """A second name, which takes no room."""
        row = self.current()
        if row is None:
            return
        said = f"{row.manifest.name} is also to be called:"
        name = await self.app.push_screen_wait(Ask("A second name", said))
        if name:
            await self._change(lambda: self.app.host.store.copy(row.manifest.name, name), name)

    @work(group="dialog", exit_on_error=False)
    async def action_delete(self) -> None:
        """Removes the model from the disk."""
        row = self.current()
        if row is None:
            return
        name, loaded = row.manifest.name, self.app.host.loaded
        if loaded is not None and loaded.name == name:
            await self.app.push_screen_wait(
                Choose("It is loaded", f"{name} answers now; use another model first.", ["Well"])
            )
            return
        said = f"{name}: its files go unless another name needs them."
        if await self.app.push_screen_wait(confirm("Remove this model?", said, "Remove it")) == 1:
            await self._change(lambda: self.app.host.store.remove(name))

    async def _change(self, change: object, keep: str | None = None) -> None:
        assert callable(change)
        try:
            await asyncio.to_thread(change)
        except LocalqError as error:
            self.app.fail(error)
        self.refresh_rows(keep)
