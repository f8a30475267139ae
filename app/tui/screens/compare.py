"""Two models side by side: what each says, where they part, and how far apart they are at each token."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from app.tui.compare_view import answer_text, legend_text, summary_text
from app.tui.comparing import Comparison, Stopped
from app.tui.palette import palette_of
from app.tui.screens.choose import Choose
from app.tui.screens.reporting import Reporting
from runtime.errors import LocalqError

TOKENS = 128
REDRAW_SECONDS = 0.1


class Compare(Reporting, Screen[None]):
    """The chat's model is not touched, but it has to leave room in memory for the others."""

    CSS_PATH = "compare.tcss"
    AUTO_FOCUS = "#prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", key_display="Esc"),
        Binding("f2", "choose(0)", "Left model", key_display="F2"),
        Binding("f3", "choose(1)", "Right model", key_display="F3"),
        Binding("f4", "swap", "Swap", key_display="F4"),
        Binding("f5", "run", "Run", key_display="F5"),
    ]

    def __init__(self, model: str | None, prompt: str) -> None:
        super().__init__()
        self._models: list[str | None] = [model, None]
        self._prompt = prompt
        self._comparison: Comparison | None = None
        self._fresh = False

    def compose(self) -> ComposeResult:
        yield Static(Text("Compare", "bold"), id="title")
        yield Input(
            self._prompt,
            placeholder="Ask both the same. Enter runs it.",
            id="prompt",
            classes="line",
            select_on_focus=False,
        )
        with Horizontal(id="sides"):
            for side in ("left", "right"):
                with Vertical(classes="side"):
                    yield Static(id=f"{side}-name", classes="name")
                    with VerticalScroll(can_focus=False):
                        yield Static(id=f"{side}-text")
        yield Static(id="summary")
        yield Static(legend_text(palette_of(self.app)), id="legend")
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        names = [model.name for model in self.app.host.store.list()]
        left = self._models[0] if self._models[0] in names else (names[0] if names else None)
        self._models = [left, next((name for name in names if name != left), left)]
        self.show_names()
        self.query_one("#summary", Static).update(
            "Both answer greedily, so a difference is the models', not the dice's."
        )
        self.set_interval(REDRAW_SECONDS, self._redraw)

    def show_names(self) -> None:
        """The models above their answers."""
        for side, name in zip(("left", "right"), self._models, strict=True):
            self.query_one(f"#{side}-name", Static).update(Text(name or "no model", "bold"))

    @on(Input.Submitted, "#prompt")
    def _submitted(self) -> None:
        self.action_run()

    def action_run(self) -> None:
        """Asks both."""
        left, right = self._models
        prompt = self.query_one("#prompt", Input).value.strip()
        chat = self.app.chat_screen
        if not prompt or left is None or right is None:
            self.notify("It needs a prompt and two models.", severity="warning")
        elif chat is not None and chat.answering is not None:
            self.notify("An answer is being written; stop it first.", severity="warning")
        elif self._comparison is None:
            self._run(Comparison(self.app.host, left, right, prompt, TOKENS))

    @work(group="compare", exit_on_error=False)
    async def _run(self, comparison: Comparison) -> None:
        self._comparison = comparison
        try:
            await asyncio.to_thread(comparison.run, self._mark)
        except Stopped:
            pass
        except LocalqError as error:
            self.app.fail(error)
        finally:
            comparison.seen.doing = ""
            self._fresh = True
            self._redraw()
            self._comparison = None

    def _mark(self) -> None:
        self._fresh = True

    def _redraw(self) -> None:
        if self._comparison is None or not self._fresh:
            return
        self._fresh = False
        seen = self._comparison.seen
        palette = palette_of(self.app)
        self.query_one("#left-text", Static).update(answer_text(seen, left=True, palette=palette))
        self.query_one("#right-text", Static).update(answer_text(seen, left=False, palette=palette))
        self.query_one("#summary", Static).update(summary_text(seen))

    @work(group="dialog", exit_on_error=False)
    async def action_choose(self, side: int) -> None:
        """Another model for one side."""
        names = [model.name for model in self.app.host.store.list()]
        chosen = await self.app.push_screen_wait(Choose("Which model?", "", names))
        if chosen is not None:
            self._models[side] = names[chosen]
            self.show_names()

    @property
    def running(self) -> bool:
        """Whether a comparison is under way."""
        return self._comparison is not None

    def action_swap(self) -> None:
        """Left for right: the divergence is that of the right model from the left one."""
        self._models.reverse()
        self.show_names()

    def action_leave(self) -> None:
        """Stops what runs, or goes back."""
        if self._comparison is not None:
            self._comparison.stop()
        else:
            self.dismiss(None)
