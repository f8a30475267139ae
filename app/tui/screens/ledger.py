"""Memory: what the plan gives each part, and what is in use now."""

from __future__ import annotations

import os
from contextlib import suppress

from rich.text import Text

from app.cli.chart import bar
from app.terminal import sanitize
from app.tui.host import Host
from app.tui.palette import PLAIN, Palette, palette_of
from app.tui.screens.help import Show
from runtime.units import format_bytes

BAR = 24


class Ledger(Show):
    """Read anew every second."""

    def __init__(self, host: Host) -> None:
        super().__init__("Memory", ledger(host))
        self._host = host

    def on_mount(self) -> None:
        self._again()
        self.set_interval(1.0, self._again)

    def _again(self) -> None:
        from textual.containers import VerticalScroll
        from textual.widgets import Static

        self.query_one(VerticalScroll).query_one(Static).update(ledger(self._host, palette_of(self.app)))


def ledger(host: Host, palette: Palette = PLAIN) -> Text:
    """Parts, their sum, the budget and what limits it; and both processes as they are."""
    import psutil

    text = Text()
    front = psutil.Process(os.getpid()).memory_info().rss
    loaded = host.loaded
    if loaded is None:
        text.append("No model is loaded.\n\n")
    else:
        plan = loaded.plan
        text.append(f"{sanitize(loaded.name, newlines=False)}, ")
        text.append(f"{plan.config.context_tokens:,} tokens of context, {plan.config.kv_type} cache\n\n")
        for name, size in (*plan.breakdown(), ("planned", plan.total)):
            _row(text, name, size, plan.total, palette, bold=name == "planned")
        pid = loaded.engine.pid
        if pid is not None:
            with suppress(psutil.Error):
                now = psutil.Process(pid).memory_info().rss
                _row(text, "in use now", now, plan.total, palette, bold=True)
        share = plan.total / max(plan.available, 1)
        text.append(f"\n{'budget':<17}{format_bytes(plan.available):>11}")
        text.append(f"  planned: {share:.0%} of it\n", palette.muted)
        limit = plan.memory.binding
        text.append(f"\nWhat limits it: {limit.name} ({limit.detail}), ", palette.muted)
        text.append(f"less {format_bytes(plan.memory.margin)} that stay free.\n", palette.muted)
    text.append(f"{'this app':<17}{format_bytes(front):>11}\n")
    return text


def _row(text: Text, name: str, size: int, most: int, palette: Palette, *, bold: bool) -> None:
    text.append(f"{name:<17}{format_bytes(size):>11}  ", "bold" if bold else "")
    text.append(f"{bar(size / max(most, 1), BAR)}\n", palette.primary)
