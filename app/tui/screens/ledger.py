"""Memory: what the plan gives each part, and what is in use now."""

from __future__ import annotations

import os

from rich.text import Text

from app.cli.chart import bar
from app.terminal import sanitize
from app.tui.host import Host
from app.tui.screens.help import Show
from runtime.units import format_bytes

BAR = 24


class Ledger(Show):
    """Read anew every second."""

    def __init__(self, host: Host) -> None:
        super().__init__("Memory", ledger(host))
        self._host = host

    def on_mount(self) -> None:
        self.set_interval(1.0, self._again)

    def _again(self) -> None:
        from textual.containers import VerticalScroll
        from textual.widgets import Static

        self.query_one(VerticalScroll).query_one(Static).update(ledger(self._host))


def ledger(host: Host) -> Text:
    """Parts, their sum, the budget and what limits it; and both processes as they are."""
    import psutil

    text = Text()
    front = psutil.Process(os.getpid()).memory_info().rss
    loaded = host.loaded
    if loaded is None:
        text.append("No model is loaded.\n\n")
    else:
        plan = loaded.plan
        most = max(plan.total, plan.available, 1)
        text.append(f"{sanitize(loaded.name, newlines=False)}, ")
        text.append(f"{plan.config.context_tokens:,} tokens of context, {plan.config.kv_type} cache\n\n")
        for name, size in (*plan.breakdown(), ("planned", plan.total)):
            style = "bold" if name == "planned" else ""
            text.append(f"{name:<17}{format_bytes(size):>11}  ", style)
            text.append(f"{bar(size / most, BAR)}\n")
        pid = loaded.engine.pid
        if pid is not None:
            try:
                now = psutil.Process(pid).memory_info().rss
                text.append(f"{'in use now':<17}{format_bytes(now):>11}  {bar(now / most, BAR)}\n", "bold")
            except psutil.Error:
                pass
        text.append(f"{'budget':<17}{format_bytes(plan.available):>11}  {bar(plan.available / most, BAR)}\n")
        limit = plan.memory.binding
        text.append(f"\nWhat limits it: {limit.name} ({limit.detail}), ", "dim")
        text.append(f"less {format_bytes(plan.memory.margin)} that stay free.\n", "dim")
    text.append(f"{'this app':<17}{format_bytes(front):>11}\n")
    return text
