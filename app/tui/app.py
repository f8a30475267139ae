"""The terminal app: which screen is shown, what they share, how it begins and ends."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, Monochrome, NoColor
from textual.screen import Screen

from app.chats import Chats, Message
from app.chats.records import now
from app.cli.errors import describe
from app.cli.front import Front
from app.cli.output import Output
from app.settings import Settings
from app.terminal import sanitize
from app.tui.clipboard import copying
from app.tui.commands import COMMANDS
from app.tui.host import Host
from app.tui.preferences import Preferences
from app.tui.screens.chat import ChatScreen
from app.tui.themes import COLOURLESS, DEFAULT, THEMES
from app.tui.wall import Wall

if TYPE_CHECKING:
    from app.tui.pictures.album import Album

THEME_STATE = "theme"
TOAST_SECONDS = 8
LEAVE_SECONDS = 3.0
"""How long an answer under way may take to end, so that its text stays in the scroll-back."""
TOAST_CHARACTERS = 600


@dataclass(frozen=True)
class Opening:
    """How the app begins: with the chat that was open last, or with a new one, with this model."""

    model: str | None = None
    new: bool = False
    preferences: Preferences | None = None
    theme: str | None = None


class LocalqApp(App[None]):
    """``front`` opens store and engine. Nothing of a model or a file is read before the first frame."""

    TITLE = "localq"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "leave", "Quit", show=False, priority=True),
        Binding("ctrl+c", "copy_or_stop", "Copy", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, priority=True),
    ]

    def __init__(self, front: Front, settings: Settings, opening: Opening = Opening()) -> None:
        super().__init__()
        self.front = dataclasses.replace(front, out=Output(quiet=True))  # the screen is not to be written on
        self.settings = settings
        self.opening = opening
        self.host = Host(self.front, settings)
        self.chats: Chats | None = None
        self.begun = asyncio.Event()
        """The chats are open and shown."""
        self._wall = Wall()
        self._album: Album | None = None
        self._complaints: set[str] = set()
        self.said = ""
        """What was said since the app began, for the scroll-back of a chat below the prompt."""
        self._since = now()
        self.failures: list[Exception] = []
        """All that was told to the person, in order."""
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = opening.theme or (COLOURLESS if self.no_color else DEFAULT)

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        if self.no_color and self.native_ansi_color:  # greys would be colours of ours, not the terminal's
            filters = [NoColor() if isinstance(each, Monochrome) else each for each in filters]
        return [*filters, self._wall]

    def on_mount(self) -> None:
        self.host.on_progress = self._hear_progress
        self.push_screen(ChatScreen())

    @property
    def chat_screen(self) -> ChatScreen | None:
        """The chat below whatever is shown."""
        return next((screen for screen in self.screen_stack if isinstance(screen, ChatScreen)), None)

    @property
    def album(self) -> Album:
        """The pictures of the working directory."""
        from app.tui.pictures.album import Album

        if self._album is None:
            self._album = Album(Path.cwd(), self._hear_picture)
        return self._album

    @property
    def shows_pictures(self) -> bool:
        """Whether the terminal has colours enough, and the person wants them."""
        plain = self.no_color or self.native_ansi_color
        return not plain and self.console.color_system in ("256", "truecolor")

    def _hear_picture(self, name: str) -> None:
        """In the album's thread."""
        self.call_later(self._show_picture, name)

    def _show_picture(self, name: str) -> None:
        if (screen := self.chat_screen) is not None:
            screen.transcript.forget_picture(name)

    def _show_pictures(self) -> None:
        if (screen := self.chat_screen) is not None:
            screen.look_again()

    def _hear_progress(self, what: str, share: float) -> None:
        """In the thread that loads."""
        self.call_later(self._progress, what, share)

    def _progress(self, what: str, share: float) -> None:
        if (screen := self.chat_screen) is not None:
            screen.progress(what, share)

    # -- what screens share ---------------------------------------------------------------------------------

    def open_chats(self) -> Chats:
        """The person's chats, in memory only where the setting says so; and the theme that they chose."""
        chats = Chats(None if self.settings.chats == "none" else self.host.store.home)
        theme = None if self.no_color else chats.state(THEME_STATE)
        if theme and self.opening.theme is None and theme in self.available_themes:
            self.call_later(setattr, self, "theme", theme)
        return chats

    def any_model(self) -> str | None:
        """The stored model that was stored last; None where there is none."""
        models = self.host.store.list()
        return max(models, key=lambda model: model.created).name if models else None

    def fail(self, error: Exception, more: str = "") -> None:
        """Says what went wrong, and what to do."""
        self.failures.append(error)
        said = describe(error)[:TOAST_CHARACTERS]
        step = getattr(error, "next_command", None)
        text = "\n".join(filter(None, [said, more, f"In a shell: {step}" if step else ""]))
        self.notify(sanitize(text), severity="error", timeout=TOAST_SECONDS, markup=False)

    def complain_once(self, error: Exception) -> None:
        """The same, but not again and again."""
        if str(error) not in self._complaints:
            self._complaints.add(str(error))
            self.fail(error)

    def copy(self, text: str, what: str) -> None:
        """Asks the terminal to copy a text."""
        sequence = copying(text, os.environ)
        if not sequence:
            self.notify(f"{what.capitalize()} is too long for the terminal's clipboard.", severity="warning")
            return
        self._clipboard = text
        if self._driver is not None:
            self._driver.write(sequence)
        self.notify(f"Copied {what}: {len(text):,} characters.")

    def copy_to_clipboard(self, text: str) -> None:
        self.copy(text, "the selection")

    def choose_theme(self, name: str) -> None:
        """Other colours, now and next time."""
        if name not in self.available_themes:
            near = ", ".join(sorted(self.available_themes))
            self.notify(f"There is no theme {name!r}; there are {near}.", severity="warning", markup=False)
            return
        self.theme = name

    def watch_theme(self, theme: str) -> None:
        if self.chats is not None:
            self.call_later(self._show_pictures)
            self.run_worker(asyncio.to_thread(self.chats.keep_state, THEME_STATE, theme), exit_on_error=False)

    def set_title(self, title: str) -> None:
        """What the terminal's window may be called."""
        self.sub_title = title

    # -- the end --------------------------------------------------------------------------------------------

    def action_copy_or_stop(self) -> None:
        """Ctrl-C: copies what is selected, else stops the answer, else says how to leave."""
        focused = self.focused
        selected = self.screen.get_selected_text() or getattr(focused, "selected_text", "")
        screen = self.chat_screen
        if selected:
            self.copy(selected, "the selection")
        elif screen is not None and screen.answering is not None:
            screen.action_stop()
        else:
            self.notify("Ctrl+Q leaves. Nothing is lost.")

    async def action_leave(self) -> None:
        """Keeps what is open, and ends."""
        if (screen := self.chat_screen) is not None:
            await screen.keep_now()
            await screen.end_answer(LEAVE_SECONDS)
            if screen.session is not None:
                self.said = said_since(screen.session.path, self._since)
        self.exit()

    async def on_unmount(self) -> None:
        screen = self.chat_screen
        answering = screen.answering if screen is not None else None
        if answering is not None:
            answering.cancel()
        if self._album is not None:
            self._album.close()
        await asyncio.to_thread(self.host.close)
        if self.chats is not None:
            await asyncio.to_thread(self.chats.close)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What the palette offers: the commands. One that needs an argument is begun in the editor."""
        chat = self.chat_screen
        if chat is not None and screen is chat:
            for command in COMMANDS:
                key = f"  ({command.key})" if command.key else ""
                yield SystemCommand(command.title, command.help + key, partial(chat.choose, command))


def said_since(path: Sequence[Message], since: datetime) -> str:
    """Questions and answers that were written since then, to read in a terminal."""
    parts = []
    for message in path:
        if message.created >= since and message.content.strip():
            quoted = "\n".join(f"> {line}".rstrip() for line in message.content.strip().splitlines())
            parts.append(quoted if message.role == "user" else message.content.strip())
    return "\n\n".join(parts)
