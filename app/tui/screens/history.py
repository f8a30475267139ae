"""The chats: searched as one types, kept in folders, pinned, renamed, carried out and in, deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from app.chats import Chat, Chats, Hit, Message
from app.cli.text import plural
from app.terminal import sanitize
from app.tui.entry import Entry
from app.tui.screens.choose import Ask, Choose, confirm
from app.tui.screens.reporting import Reporting
from app.tui.widgets.transcript import Transcript
from runtime.errors import LocalqError

WIDTHS: Final = [(0, "-narrow"), (110, "-wide")]

SHOWN: Final = 500
"""Chats that are listed; the search finds the others."""
HITS: Final = 100
PREVIEWED: Final = 30
"""Messages of the preview, the last ones."""

SHOWN_PROBLEMS: Final = 3

Chosen = tuple[int, int | None]
"""A chat, and the message in it that was found."""


class History(Reporting, Screen[Chosen | None]):
    """The chat that is to be opened; None where the person leaves."""

    CSS_PATH = "history.tcss"
    AUTO_FOCUS = "Input"
    HORIZONTAL_BREAKPOINTS = WIDTHS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", key_display="Esc"),
        Binding("f2", "folder_filter", "Folders", key_display="F2"),
        Binding("f3", "rename", "Rename", key_display="F3"),
        Binding("f4", "move", "Move", key_display="F4"),
        Binding("f5", "pin", "Pin", key_display="F5"),
        Binding("f6", "export", "Export", key_display="F6"),
        Binding("f7", "take_in", "Import", key_display="F7"),
        Binding("f8,delete", "delete", "Delete", key_display="F8"),
        Binding("down", "down", show=False),
        Binding("up", "up", show=False),
    ]

    def __init__(self, chats: Chats) -> None:
        super().__init__()
        self._chats = chats
        self._rows: list[Chat | Hit] = []
        self._folder: str | None = None
        self._seen = 0

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        yield Input(placeholder="Search in titles and messages", id="search", classes="line")
        with Horizontal():
            yield OptionList(id="chats")
            with Vertical(id="preview"):
                yield Transcript(id="previewed")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#previewed").can_focus = False
        self.refresh_rows()
        self.set_interval(1.0, self._look)

    # -- the list -------------------------------------------------------------------------------------------

    @on(Input.Changed, "#search")
    def _typed(self) -> None:
        self.refresh_rows()

    @work(group="search", exclusive=True, exit_on_error=False)
    async def refresh_rows(self, keep: int | None = None) -> None:
        """What is searched for, or all; chat ``keep`` stays under the cursor."""
        typed = self.query_one(Input).value.strip()
        try:
            if typed:
                rows: Sequence[Chat | Hit] = await asyncio.to_thread(self._chats.search, typed, limit=HITS)
            else:
                rows = await asyncio.to_thread(self._chats.list, folder=self._folder, limit=SHOWN)
            count = await asyncio.to_thread(self._chats.count)
            self._seen = await asyncio.to_thread(self._chats.changes)
        except LocalqError as error:
            self.app.fail(error)
            return
        self._rows = list(rows)
        listed = self.query_one("#chats", OptionList)
        listed.clear_options()
        listed.add_options([Option(_row(row)) for row in self._rows])
        at = next((at for at, row in enumerate(self._rows) if _chat_id(row) == keep), 0)
        listed.highlighted = at if self._rows else None
        self.query_one("#title", Static).update(self._heading(typed, count))
        if not self._rows:
            self.query_one("#previewed", Transcript).show([])

    def _heading(self, typed: str, count: int) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("History", "bold").append(f"  {plural(count, 'chat')}")
        if typed:
            more = " or more" if len(self._rows) >= HITS else ""
            text.append(f"  {plural(len(self._rows), 'place')}{more} found")
        elif self._folder is not None:
            text.append(f"  in {sanitize(self._folder, newlines=False) or 'no folder'}")
        elif count > SHOWN:
            text.append(f"  the {SHOWN} newest are listed")
        return text

    async def _look(self) -> None:
        """Another process may have changed something."""
        if await asyncio.to_thread(self._chats.changes) != self._seen:
            self.refresh_rows(self._current_id())

    def _current(self) -> Chat | Hit | None:
        at = self.query_one("#chats", OptionList).highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    def _current_id(self) -> int | None:
        current = self._current()
        return None if current is None else _chat_id(current)

    @on(OptionList.OptionHighlighted, "#chats")
    def _highlighted(self) -> None:
        if self.has_class("-wide"):
            self.preview()

    @work(group="preview", exclusive=True, exit_on_error=False)
    async def preview(self) -> None:
        """The messages of the chat under the cursor, at what was found."""
        current = self._current()
        if current is None:
            return
        await asyncio.sleep(0.05)  # while somebody runs through the list nothing is read
        found = current.message_id if isinstance(current, Hit) else None
        try:
            path = await asyncio.to_thread(self._around, _chat_id(current), found)
        except LocalqError:
            return
        shown = self.query_one("#previewed", Transcript)
        shown.show([Entry.of(message) for message in path], None if found is None else (found, 0))

    def _around(self, chat_id: int, message_id: int | None) -> Sequence[Message]:
        tree = self._chats.tree(chat_id)
        leaf_id = tree.leaf(message_id) if message_id is not None else self._chats.get(chat_id).leaf_id
        path = tree.path(leaf_id)
        at = next((at for at, message in enumerate(path) if message.id == message_id), len(path))
        return path[max(0, at - PREVIEWED // 2) :][:PREVIEWED] if message_id else path[-PREVIEWED:]

    # -- keys -----------------------------------------------------------------------------------------------

    def action_down(self) -> None:
        """The chat below; the search keeps the keys."""
        self.query_one("#chats", OptionList).action_cursor_down()

    def action_up(self) -> None:
        """The chat above."""
        self.query_one("#chats", OptionList).action_cursor_up()

    @on(Input.Submitted, "#search")
    @on(OptionList.OptionSelected, "#chats")
    def _open(self) -> None:
        current = self._current()
        if current is not None:
            self.dismiss((_chat_id(current), current.message_id if isinstance(current, Hit) else None))

    def action_leave(self) -> None:
        """Empties the search, or goes back to the chat."""
        search = self.query_one(Input)
        if search.value:
            search.value = ""
        elif self._folder is not None:
            self._folder = None
            self.refresh_rows()
        else:
            self.dismiss(None)

    @work(group="dialog", exit_on_error=False)
    async def action_folder_filter(self) -> None:
        """Shows one folder only."""
        folders = list(await asyncio.to_thread(self._chats.folders))
        chosen = await self.app.push_screen_wait(
            Choose("Show", "", ["All chats", "Those in no folder", *folders])
        )
        if chosen is not None:
            self._folder = None if chosen == 0 else "" if chosen == 1 else folders[chosen - 2]
            self.query_one(Input).value = ""
            self.refresh_rows()

    @work(group="dialog", exit_on_error=False)
    async def action_rename(self) -> None:
        """Another title."""
        current = self._current()
        if current is not None:
            title = await self.app.push_screen_wait(Ask("Title of the chat", value=current.title))
            if title:
                await self._change(_chat_id(current), title=title)

    @work(group="dialog", exit_on_error=False)
    async def action_move(self) -> None:
        """Into a folder, or out of one."""
        current = self._current()
        if current is None:
            return
        folders = ", ".join(await asyncio.to_thread(self._chats.folders))
        said = f"There are: {folders}." if folders else ""
        name = await self.app.push_screen_wait(
            Ask("Move to a folder", said, current.folder, "empty: in no folder")
        )
        if name is not None:
            await self._change(_chat_id(current), folder=name)

    async def action_pin(self) -> None:
        """Pinned chats come first."""
        current = self._current()
        if current is not None:
            await self._change(_chat_id(current), pinned=not current.pinned)

    async def _change(self, chat_id: int, **changes: object) -> None:
        try:
            await asyncio.to_thread(lambda: self._chats.change(chat_id, **changes))
        except LocalqError as error:
            self.app.fail(error)
        self.refresh_rows(chat_id)

    @work(group="dialog", exit_on_error=False)
    async def action_export(self) -> None:
        """The chat under the cursor as a file."""
        from app.tui.exporting import export_chat

        current = self._current()
        if current is None:
            return
        said = "Markdown of the current branch; or JSON of all branches, for a name that ends in .json."
        name = await self.app.push_screen_wait(
            Ask("Export to", said, placeholder="empty: a name made of the title, in this folder")
        )
        if name is None:
            return
        try:
            path = await asyncio.to_thread(export_chat, self._chats, _chat_id(current), name, Path.cwd())
        except LocalqError as error:
            self.app.fail(error)
        else:
            self.notify(f"Wrote {sanitize(str(path))}", markup=False)

    @work(group="dialog", exit_on_error=False)
    async def action_take_in(self) -> None:
        """Chats of other programs."""
        said = (
            "ChatGPT: the exported zip. LM Studio: the folder ~/.lmstudio/conversations. "
            "Ollama's app: its db.sqlite. Open WebUI, localq: the exported JSON."
        )
        name = await self.app.push_screen_wait(Ask("Import chats from", said, placeholder="a file or folder"))
        if name:
            await self._import(name)

    async def _import(self, name: str) -> None:
        from app.chats.imports import take_in
        from app.cli.chats.import_ import summary

        try:
            taken = await asyncio.to_thread(take_in, self._chats, [Path(name)])
        except LocalqError as error:
            self.app.fail(error)
        else:
            unread = [f"not read: {problem.where}: {problem.reason}" for problem in taken.unread]
            self.notify(
                sanitize("\n".join([summary(taken), *unread[:SHOWN_PROBLEMS]])), markup=False, timeout=8
            )
        self.refresh_rows(self._current_id())

    @work(group="dialog", exit_on_error=False)
    async def action_delete(self) -> None:
        """The chat under the cursor, for good."""
        current = self._current()
        if current is None:
            return
        chat = await asyncio.to_thread(self._chats.get, _chat_id(current))
        said = f"“{chat.title or 'Untitled'}”, {chat.messages} messages: overwritten on the disk, and gone."
        if await self.app.push_screen_wait(confirm("Delete this chat?", said, "Delete it")) == 1:
            try:
                await asyncio.to_thread(self._chats.delete, [chat.id])
            except LocalqError as error:
                self.app.fail(error)
            self.refresh_rows()


def _chat_id(row: Chat | Hit) -> int:
    return row.id if isinstance(row, Chat) else row.chat_id


def _row(row: Chat | Hit) -> Text:
    """Two lines: the title with what belongs to it, and below when, or what was found."""
    text = Text(no_wrap=True, overflow="ellipsis")
    if row.pinned:
        text.append("★ ", "bold")
    if row.folder:
        text.append(f"{sanitize(row.folder, newlines=False)} / ", "dim")
    text.append(sanitize(row.title, newlines=False) or "Untitled", "bold")
    if isinstance(row, Chat):
        model = f" · {sanitize(row.model, newlines=False)}" if row.model else ""
        text.append(f"\n  {when(row.updated)} · {row.messages} messages{model}", "dim")
        return text
    text.append("\n  ")
    if row.message_id is None:
        text.append(f"title · {when(row.created)}", "dim")
        return text
    text.append("You: " if row.role == "user" else "", "dim")
    position = 0
    for start, end in row.spans:
        text.append(sanitize(row.excerpt[position:start], newlines=False))
        text.append(sanitize(row.excerpt[start:end], newlines=False), "bold reverse")
        position = end
    text.append(sanitize(row.excerpt[position:], newlines=False))
    return text


def when(moment: datetime) -> str:
    """As a person says it: the time today, the day this year, the date before."""
    local, now = moment.astimezone(), datetime.now().astimezone()
    if local.date() == now.date():
        return f"{local:%H:%M}"
    return f"{local:%d %b %H:%M}" if local.year == now.year else f"{local:%Y-%m-%d}"
