"""The chat as it is seen: transcript, editor, gauges, and what of it survives a crash."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Footer, Static

from app.chats import Attachment, Chats, Draft, Message
from app.cli.text import plural
from app.terminal import sanitize
from app.tui.entry import Entry
from app.tui.gauges import Gauges
from app.tui.markdown import Look
from app.tui.screens.reporting import Reporting
from app.tui.session import Session
from app.tui.widgets.editor import Editor
from app.tui.widgets.gauge_bar import GaugeBar
from app.tui.widgets.suggestions import Suggestions
from app.tui.widgets.transcript import Transcript
from runtime.errors import LocalqError
from runtime.units import format_bytes

KEEP_SECONDS: Final = 0.5
"""What was typed longer ago than this survives a crash."""
MEMORY_SECONDS: Final = 2.0
PLACE: Final = "place"


class Place(msgspec.Struct, frozen=True):
    """Where the person was."""

    chat_id: int | None = None
    model: str | None = None
    top: tuple[int, int] | None = None
    """Message and line at the top of the view; None = at the end."""


class ChatView(Reporting, Screen[None]):
    """What the chat screen shows, and how it is kept."""

    CSS_PATH = "chat.tcss"
    AUTO_FOCUS = "#editor"

    def __init__(self) -> None:
        super().__init__()
        self.session: Session | None = None
        self.attachments: list[Attachment] = []
        self.editing: Message | None = None
        """The question that is being changed: what is sent becomes a branch beside it."""
        self._kept_draft: tuple[int | None, Draft] | None = None
        self._turning = False
        """Another chat is being shown: what stands in the editor is not its draft yet."""
        self._kept_place = Place()
        self._costs: dict[str, int] = {}

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        yield Transcript(id="transcript")
        yield Static(id="welcome")
        with Vertical(id="below"):
            yield Suggestions(id="suggestions")
            yield Static(id="attached")
            yield Editor(id="editor")
            yield GaugeBar(id="gauges")
        yield Footer(compact=True, show_command_palette=False)

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)

    @property
    def editor(self) -> Editor:
        return self.query_one(Editor)

    def gauge(self, **changes: object) -> None:
        """New values of the gauges."""
        bar = self.query_one(GaugeBar)
        bar.gauges = bar.gauges.with_(**changes)

    @property
    def gauges(self) -> Gauges:
        return self.query_one(GaugeBar).gauges

    # -- opening --------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.call_after_refresh(self._begin)
        self.set_interval(KEEP_SECONDS, self._keep)
        self.set_interval(MEMORY_SECONDS, self._measure_memory)

    async def _begin(self) -> None:
        """Opens the chats, and the one that was open, after the first frame."""
        collect_from_now_on()
        opening = self.app.opening
        try:
            chats = await asyncio.to_thread(self.app.open_chats)
        except LocalqError as error:
            self.app.fail(error, "Chats are kept in memory only until this is mended.")
            chats = await asyncio.to_thread(Chats, None)
        self.app.chats = chats
        self.session = Session(chats)
        place = await asyncio.to_thread(_read_place, chats)
        shown = False
        if not opening.new and place.chat_id is not None:
            shown = await self.open_chat(place.chat_id, place.top, quiet=True)
        self.session.model = opening.model or self.session.model or place.model or self.app.any_model()
        if opening.preferences is not None:
            await asyncio.to_thread(self.session.choose, preferences=opening.preferences)
        if self.session.chat is None:
            await self.restore_draft()
        written = await asyncio.to_thread(chats.asked)
        self.editor.remember(written)
        if shown:
            self.show_title()
        else:
            self.show()
        self.app.begun.set()
        self.opened()

    def opened(self) -> None:
        """The chats are open, and one is shown."""

    async def open_chat(
        self, chat_id: int, top: tuple[int, int] | None = None, *, quiet: bool = False
    ) -> bool:
        """Shows another chat; whether it is there."""
        if self.session is None:
            return False
        await self.keep_now()
        self._turning = True
        try:
            await asyncio.to_thread(self.session.open, chat_id)
            await self.restore_draft()
        except LocalqError as error:
            if not quiet:
                self.app.fail(error)
            return False
        finally:
            self._turning = False
        self.show(top)
        return True

    async def restore_draft(self) -> None:
        """What was typed for this chat and not sent."""
        assert self.session is not None
        chat_id = self.session.chat_id
        self._turning = True
        try:
            draft = await asyncio.to_thread(self.session.chats.draft, chat_id)
        finally:
            self._turning = False
        self._kept_draft = (chat_id, draft)
        self.attachments = list(draft.attachments)
        self.editing = None
        if not self.app.begun.is_set() and (typed := self.editor.text):  # while the chats were being opened
            self.editor.put(draft.text + typed)
        else:
            self.editor.put(draft.text, draft.cursor)
        self.show_attachments()

    # -- showing --------------------------------------------------------------------------------------------

    def show(self, top: tuple[int, int] | None = None) -> None:
        """The open chat, as it is on the disk."""
        assert self.session is not None
        session = self.session
        entries = [self.entry_of(message) for message in session.path]
        self.transcript.look = self._look
        self.transcript.show(entries, top)
        self.show_title()
        last = next((message for message in reversed(session.path) if message.facts.get("usage")), None)
        self.gauge(dropped=0, **figures_of(last))

    def entry_of(self, message: Message) -> Entry:
        """A message of the open chat, to be shown."""
        assert self.session is not None
        entry = Entry.of(message, self.session.place(message), facts_line(message))
        if isinstance(error := message.facts.get("error"), str):
            entry.note = f"{error}; F5 tries again"
        return entry

    @property
    def _look(self) -> Look | None:
        """Where pictures come from; None where none are shown."""
        return self.app.album.look if self.app.shows_pictures else None

    def look_again(self) -> None:
        """Whether pictures are shown may be another now."""
        self.transcript.look_with(self._look)

    def show_title(self) -> None:
        """The line at the top, and the greeting of an empty chat."""
        assert self.session is not None
        session = self.session
        title = sanitize(session.title, newlines=False) or "New chat"
        folder = sanitize(session.chat.folder, newlines=False) if session.chat else ""
        model = sanitize(session.model or "no model", newlines=False)
        self.query_one("#title", Static).update(
            _title(f"{folder} / {title}" if folder else title, model, self.size.width)
        )
        empty = not self.transcript.entries
        self.set_class(empty, "-empty")
        if empty:
            self.query_one("#welcome", Static).update(_welcome(model))
        self.app.set_title(title)

    def show_attachments(self) -> None:
        """The line of what will be sent along."""
        line = self.query_one("#attached", Static)
        parts = []
        if self.editing is not None:
            parts.append("editing: what you send becomes a branch, Esc leaves it")
        for file in self.attachments:
            cost = self._costs.get(file.text)
            tokens = f", {cost:,} tokens" if cost is not None else ""
            parts.append(f"+ {sanitize(file.name, newlines=False)} ({format_bytes(len(file.text))}{tokens})")
        line.update(_plain("   ".join(parts)))
        line.display = bool(parts)
        self.gauge(draft=sum(self._costs.get(file.text, 0) for file in self.attachments))

    def _measure_memory(self) -> None:
        loaded = self.app.host.loaded if self.app.begun.is_set() else None
        pid = loaded.engine.pid if loaded is not None else None
        if loaded is None or pid is None:
            return
        import psutil

        try:
            self.gauge(resident=psutil.Process(pid).memory_info().rss, plan=loaded.plan)
        except psutil.Error:
            return

    # -- keeping --------------------------------------------------------------------------------------------

    def draft(self) -> Draft:
        """What is typed and attached."""
        return Draft(
            text=self.editor.text, cursor=self.editor.cursor_location, attachments=tuple(self.attachments)
        )

    async def _keep(self) -> None:
        if self.session is None or self._turning or not self.app.begun.is_set():
            return
        session = self.session
        draft = self._kept_draft[1] if self.editing is not None and self._kept_draft else self.draft()
        place = Place(session.chat_id, session.model, self.transcript.place)
        if (session.chat_id, draft) != self._kept_draft or place != self._kept_place:
            try:
                await asyncio.to_thread(self._write, session.chat_id, draft, place)
            except LocalqError as error:
                self.app.complain_once(error)

    async def keep_now(self) -> None:
        """Draft and place, before something else is shown."""
        await self._keep()

    def _write(self, chat_id: int | None, draft: Draft, place: Place) -> None:
        assert self.session is not None
        chats = self.session.chats
        if (chat_id, draft) != self._kept_draft:
            chats.keep_draft(chat_id, draft)
            if chat_id is not None and self._kept_draft is not None and self._kept_draft[0] is None:
                chats.keep_draft(None, Draft())  # the chat that it was typed for has begun
            self._kept_draft = (chat_id, draft)
        if place != self._kept_place:
            chats.keep_state(PLACE, msgspec.json.encode(place).decode())
            self._kept_place = place

    @on(Transcript.CodeClicked)
    def _copy_code(self, event: Transcript.CodeClicked) -> None:
        self.app.copy(event.code.text, "the code")


def collect_from_now_on() -> None:
    """Turns the collector of garbage on where a start turned it off; what there is already is left alone."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _read_place(chats: Chats) -> Place:
    try:
        return msgspec.json.decode(chats.state(PLACE) or "{}", type=Place)
    except msgspec.DecodeError:
        return Place()


def facts_line(message: Message) -> str:
    """What is said beside an answer's name."""
    facts = message.facts
    usage, timings = facts.get("usage"), facts.get("timings")
    if not isinstance(usage, dict) or not isinstance(timings, dict):
        return ""
    tokens, seconds = usage.get("output_tokens", 0), timings.get("decode_seconds", 0.0)
    parts = [plural(tokens, "token")]
    if seconds > 0 and tokens > 1:
        parts.append(f"{(tokens - 1) / seconds:.1f} tok/s")
    if isinstance(joules := facts.get("joules"), float):
        parts.append(f"{joules:.0f} J")
    return " · ".join(parts)


def figures_of(message: Message | None) -> dict[str, Any]:
    """What the gauges say of the last answer."""
    facts = message.facts if message is not None else {}
    usage, timings = facts.get("usage") or {}, facts.get("timings") or {}
    tokens, seconds = usage.get("output_tokens", 0), timings.get("decode_seconds", 0.0)
    read = usage.get("prompt_tokens", 0) - usage.get("cached_tokens", 0)
    prefill = timings.get("prefill_seconds", 0.0)
    return {
        "used": usage.get("prompt_tokens", 0) + tokens,
        "writing": (tokens - 1) / seconds if seconds > 0 and tokens > 1 else None,
        "reading": read / prefill if prefill > 0 and read > 0 else None,
        "joules": facts.get("joules"),
    }


def _title(title: str, model: str, width: int) -> Any:
    from rich.cells import cell_len
    from rich.text import Text

    from app.cli.text import shorten

    room = max(8, width - 2 - cell_len(model) - 3)
    shown = shorten(title, room)
    gap = " " * max(1, width - 2 - cell_len(shown) - cell_len(model))
    return Text.assemble((shown, "bold"), gap, (model, "dim"), no_wrap=True, overflow="ellipsis")


def _welcome(model: str) -> Any:
    return _plain(
        f"You talk to {model}, on this machine.\n\n"
        "Enter sends   Ctrl+J new line   Tab messages\n"
        "/ commands    @ attach a file   Ctrl+P palette"
    )


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def messages_below(path: Sequence[Message], message: Message) -> int:
    """How many messages stand after this one."""
    return len(path) - 1 - [other.id for other in path].index(message.id)
