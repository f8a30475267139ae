"""The gauges as a line of the screen."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from app.terminal import sanitize
from app.tui.gauges import Gauges, draw
from app.tui.widgets.styles import component_style


class GaugeBar(Widget):
    """Shows :class:`Gauges`; a click asks for the whole ledger of memory."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "gauge-name",
        "gauge-rule",
        "gauge-bar",
        "gauge-near",
        "gauge-full",
        "gauge-busy",
    }
    DEFAULT_CSS = """
    GaugeBar {
        height: 1;
        padding: 0 1;
        background: $surface;
        color: $foreground;
        & > .gauge-name { color: $text-muted; }
        & > .gauge-rule { color: $foreground 30%; }
        & > .gauge-bar { color: $primary; }
        & > .gauge-near { color: $text-warning; }
        & > .gauge-full { color: $text-error; text-style: bold; }
        & > .gauge-busy { color: $text-accent; }
    }
    """

    gauges: reactive[Gauges] = reactive(Gauges())

    class Clicked(Message):
        """Somebody wants to know more."""

    def render(self) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        for said, style in draw(self.gauges, self.size.width + 2):
            text.append(sanitize(said, newlines=False), component_style(self, style) if style else "")
        return text

    def on_click(self) -> None:
        self.post_message(self.Clicked())
