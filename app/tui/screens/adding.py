"""Getting a model: the first thing on a new machine, and the way to another one later."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from app.terminal import sanitize
from app.tui.asking import Asking
from app.tui.machine import Facts, look
from app.tui.offers import Offer, of_result, offers, with_result
from app.tui.offers_view import about_text, header_text, machine_text, row_text
from app.tui.palette import palette_of
from app.tui.screens.choose import Ask, Choose
from app.tui.screens.reporting import Reporting
from app.tui.sources import Way, demo, file, ways_to
from runtime.errors import LocalqError

if TYPE_CHECKING:
    from app.hub.search import Result

SEARCH_SECONDS: Final = 0.4
"""Without a key, before the Hub is asked."""
LEAST_LETTERS: Final = 2
FOUND: Final = 12


class Adding(Reporting, Screen[str | None]):
    """The name of the model that was added; None where the person leaves. ``first``: there is none yet."""

    CSS_PATH = "adding.tcss"
    AUTO_FOCUS = "#search"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+m", "choose", "Choose", key_display="Enter"),
        Binding("escape", "leave", "Back", key_display="Esc"),
        Binding("down", "move(1)", show=False),
        Binding("up", "move(-1)", show=False),
        Binding("pagedown", "move(8)", show=False),
        Binding("pageup", "move(-8)", show=False),
    ]

    def __init__(self, *, first: bool = False) -> None:
        super().__init__()
        self._first = first
        self._facts = Facts()
        self._offers: list[Offer] = []
        self._found: list[Offer] = []
        self._rows: list[Offer] = []
        self._asking: Asking | None = None
        self._offline_for = ""
        """Why the Hub cannot be asked."""
        self._moved = False

    def compose(self) -> ComposeResult:
        yield Static(id="title")
        with Vertical(id="body"):
            yield Static("Looking at this machine…", id="facts")
            yield Input(placeholder="Type to search the Hugging Face Hub", id="search", classes="line")
            yield Static(id="header")
            yield OptionList(id="offers", compact=True)
            yield Static(id="about")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.query_one("#offers").can_focus = False
        self._say("")
        self._begin()

    def on_unmount(self) -> None:
        self._look_away()

    def _look_away(self) -> None:
        """Ends the questions to the Hub: the work that follows has connections of its own."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.close()

    def _say(self, said: str) -> None:
        if not said and self._offline_for:
            said = f"no Hub: {sanitize(self._offline_for, newlines=False)}"
        title = Text(no_wrap=True, overflow="ellipsis")
        title.append("Welcome to localq" if self._first else "Add a model", "bold")
        title.append(f"  {said or 'Which model shall answer?'}", "dim")
        self.query_one("#title", Static).update(title)

    # -- what there is --------------------------------------------------------------------------------------

    @work(group="look", exit_on_error=False)
    async def _begin(self) -> None:
        """The machine, then the catalog, then what the Hub says of it."""
        loaded = self.app.host.loaded
        held = loaded.plan.total if loaded is not None else 0
        store = self.app.host.store
        self._facts = facts = await asyncio.to_thread(look, self.app.settings, store.home, held)
        self.query_one("#facts", Static).update(machine_text(facts, palette_of(self.app)))
        self._offers = offers(facts.available, facts.bandwidth, facts.disk_free)
        self._refresh()
        self.judge()

    @work(group="judge", exclusive=True, exit_on_error=False)
    async def judge(self) -> None:
        """What the Hub says of the rows, as it comes."""
        asking = self._asking = self._asking or Asking(self.app.settings, self._facts)
        unknown = [offer for offer in self._offers if offer.entry is not None and offer.result is None]
        try:
            await asyncio.to_thread(asking.judge, unknown, partial(self._tell, asking))
        except LocalqError as error:
            if not asking.closed:
                self._offline(error)

    def _tell(self, asking: Asking, offer: Offer, result: Result) -> None:
        """From a thread to the screen, if it is still there."""
        self.app.call_later(self._take, asking, offer.name, result)

    def _take(self, asking: Asking, name: str, result: Result) -> None:
        if asking is not self._asking or not self.is_attached:
            return
        self._offers = [
            with_result(offer, result) if offer.name == name and offer.kind == "catalog" else offer
            for offer in self._offers
        ]
        self._refresh()

    def _offline(self, error: LocalqError) -> None:
        """Without the Hub the demo model is what can be had at once."""
        self._offline_for = str(error).partition(";")[0]
        self._say("")
        demo_at = next((at for at, offer in enumerate(self._rows) if offer.kind == "demo"), None)
        if not self._moved and demo_at is not None:
            self.query_one("#offers", OptionList).highlighted = demo_at

    # -- the list -------------------------------------------------------------------------------------------

    @on(Input.Changed, "#search")
    def _typed(self) -> None:
        self._moved = False
        self._found = []
        self._refresh(anew=True)
        self.search()

    @work(group="search", exclusive=True, exit_on_error=False)
    async def search(self) -> None:
        """What the Hub has for what is typed, as soon as the person rests."""
        words = self._words
        if len(words) < LEAST_LETTERS:
            self._say("")
            return
        await asyncio.sleep(SEARCH_SECONDS)
        self._say("searching the Hub…")
        asking = self._asking = self._asking or Asking(self.app.settings, self._facts)
        try:
            results = await asyncio.to_thread(asking.search, words, FOUND)
        except LocalqError as error:
            self._say(sanitize(str(error), newlines=False))
            return
        if words == self._words:
            self._found = [of_result(result) for result in results]
            self._offline_for = ""
            self._say("" if results else "the Hub has nothing of that name")
            self._refresh(anew=True)

    @property
    def _words(self) -> str:
        return self.query_one("#search", Input).value.strip()

    def _shown(self) -> list[Offer]:
        words = self._words.lower().split()
        if not words:
            return self._offers
        known = [
            offer
            for offer in self._offers
            if offer.kind != "file" and all(word in offer.title.lower() for word in words)
        ]
        return [*known, *self._found]

    def _refresh(self, *, anew: bool = False) -> None:
        """The rows as they are known now; ``anew`` with the cursor on the first."""
        rows, width = self._shown(), max(40, self.size.width - 8)  # a scroll bar too
        listed, palette = self.query_one("#offers", OptionList), palette_of(self.app)
        best = next((offer.name for offer in self._offers if offer.kind == "catalog"), None)
        stored = {model.name for model in self.app.host.store.list()}
        prompts = [
            row_text(
                row,
                row.name == best and row.kind == "catalog" and row.fits,
                bool(stored & {row.name, f"{row.name}:fit".lower()}),
                width,
                palette,
            )
            for row in rows
        ]
        same = [(row.kind, row.name) for row in rows] == [(row.kind, row.name) for row in self._rows]
        self._rows = rows
        self.query_one("#header", Static).update(header_text(width, palette))
        if same and not anew:
            for at, prompt in enumerate(prompts):
                listed.replace_option_prompt_at_index(at, prompt)
        else:
            listed.clear_options()
            listed.add_options([Option(prompt) for prompt in prompts])
            listed.highlighted = 0 if rows else None
        self._show_about()

    def on_resize(self) -> None:
        if self._rows:
            at = self.query_one("#offers", OptionList).highlighted
            self._refresh(anew=True)
            self.query_one("#offers", OptionList).highlighted = at

    def current(self) -> Offer | None:
        """The row under the cursor."""
        at = self.query_one("#offers", OptionList).highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    @on(OptionList.OptionHighlighted, "#offers")
    def _show_about(self) -> None:
        self.query_one("#about", Static).update(about_text(self.current(), palette_of(self.app)))

    # -- keys -----------------------------------------------------------------------------------------------

    def action_move(self, step: int) -> None:
        """The cursor to another row; the search keeps the keys."""
        listed = self.query_one("#offers", OptionList)
        self._moved = True
        if self._rows:
            at = (listed.highlighted or 0) + step
            listed.highlighted = min(max(at, 0), len(self._rows) - 1)

    @on(Input.Submitted, "#search")
    @on(OptionList.OptionSelected, "#offers")
    def action_choose(self) -> None:
        """The row under the cursor: the ways to it, then the work."""
        if (offer := self.current()) is not None:
            self.get(offer)

    @work(group="get", exclusive=True, exit_on_error=False)
    async def get(self, offer: Offer) -> None:
        """Asks what is to be known, and gets the model."""
        from app.tui.screens.making import MakingModel

        try:
            way = await self._way(offer)
        except LocalqError as error:
            self.app.fail(error)
            return
        if way is None:
            return
        chat = self.app.chat_screen
        if way.work is not None and chat is not None and chat.answering is not None:
            self.notify("An answer is being written, which the work would end.", severity="warning")
            return
        name: str | None = way.name
        if way.work is not None:
            self._look_away()
            name = await self.app.push_screen_wait(MakingModel(way.name, way.work))
        if name is not None:
            self.dismiss(name)
        else:
            self.judge()

    async def _way(self, offer: Offer) -> Way | None:
        if offer.kind == "demo":
            return demo(self.app)
        if offer.kind == "file":
            return await self._file()
        ways = ways_to(offer, self.app, self._facts.disk_free) if offer.fits else []
        said = about_text(offer).plain
        if not ways:
            reason = "" if not offer.fits else "\nThe disk has no room for making it."
            await self.app.push_screen_wait(Choose(offer.title, said + reason, ["Choose another"]))
            return None
        titles = [way.title for way in ways]
        chosen = await self.app.push_screen_wait(Choose(offer.title, said, titles))
        return None if chosen is None else ways[chosen]

    async def _file(self) -> Way | None:
        from app.cli.import_ import default_name
        from app.paths import expand

        said = "A GGUF file, a folder with the parts of one, or a folder with safetensors."
        given = await self.app.push_screen_wait(Ask("Add a file", said, placeholder="~/models/model.gguf"))
        if not given:
            return None
        path = expand(given.strip()).absolute()
        way = file(self.app, path, default_name(path), link=False)
        name = await self.app.push_screen_wait(Ask("Its name", value=way.name))
        if not name:
            return None
        if path.is_dir():
            return file(self.app, path, name, link=False)
        linked = await self.app.push_screen_wait(
            Choose("Copy it?", "", ["Copy it into the store", "Leave it where it is, and only remember it"])
        )
        return None if linked is None else file(self.app, path, name, link=linked == 1)

    def action_leave(self) -> None:
        """Empties the search, or goes back."""
        search = self.query_one("#search", Input)
        if search.value:
            search.value = ""
        else:
            self.dismiss(None)
