"""The line that is always there: speed, context, memory. Pure; drawn as spans."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from app.cli.chart import bar
from app.tui.markdown import Span

if TYPE_CHECKING:
    from runtime.budget import MemoryPlan

BAR: Final = 10
NEARLY: Final = 0.85


@dataclass(frozen=True)
class Gauges:
    """What is known now; None and 0 = not known."""

    model: str = ""
    doing: str = ""
    """What is under way, such as ``loading demo 40 %``."""
    writing: float | None = None
    """Tokens a second, of the answer under way or the last."""
    reading: float | None = None
    used: int = 0
    context: int = 0
    draft: int = 0
    """Tokens of what is typed and attached."""
    dropped: int = 0
    resident: int = 0
    """Bytes of the worker."""
    plan: MemoryPlan | None = None
    joules: float | None = None
    notes: tuple[str, ...] = field(default=())

    def with_(self, **changes: object) -> Gauges:
        return replace(self, **changes)  # type: ignore[arg-type]


def draw(gauges: Gauges, width: int) -> list[Span]:
    """As much as fits, the more important first."""
    groups = [group for group in (_doing(gauges), _context(gauges), _memory(gauges), _speed(gauges)) if group]
    extra = [group for group in (_reading(gauges), _energy(gauges)) if group]
    short = [_context(gauges, short=True), _memory(gauges, short=True)]
    for chosen in (
        [*groups, *extra],
        groups,
        [_doing(gauges), *short, _speed(gauges)],
        [_doing(gauges), *short],
    ):
        spans = _joined([group for group in chosen if group])
        if _width(spans) <= width - 2:
            return spans
    spans = _joined([group for group in (_doing(gauges), _context(gauges, short=True)) if group])
    return spans if _width(spans) <= width - 2 else _context(gauges, short=True)


def _width(spans: list[Span]) -> int:
    return sum(cell_len(span.text) for span in spans)


def _joined(groups: list[list[Span]]) -> list[Span]:
    spans: list[Span] = []
    for group in groups:
        if spans:
            spans.append(Span("  ·  ", "gauge-rule"))
        spans += group
    return spans


def _doing(gauges: Gauges) -> list[Span]:
    return [Span(gauges.doing, "gauge-busy")] if gauges.doing else []


def _context(gauges: Gauges, *, short: bool = False) -> list[Span]:
    if not gauges.context:
        return []
    total = gauges.used + gauges.draft
    share = total / gauges.context
    style = "gauge-full" if share > 1 else "gauge-near" if share > NEARLY else "gauge-bar"
    number = f"{gauges.used:,}" + (f"+{gauges.draft:,}" if gauges.draft else "")
    spans = [Span("ctx " if short else "context ", "gauge-name")]
    if not short:
        drawn = bar(share, BAR)
        spans += [Span(drawn, style), Span("░" * (BAR - len(drawn)), "gauge-rule"), Span(" ")]
    spans.append(Span(f"{number}/{gauges.context:,}", style if share > NEARLY else ""))
    if gauges.dropped:
        spans.append(Span(f" −{gauges.dropped} old", "gauge-near"))
    return spans


def _memory(gauges: Gauges, *, short: bool = False) -> list[Span]:
    plan = gauges.plan
    if plan is None:
        return []
    now = gauges.resident or plan.total
    share = now / plan.available if plan.available else 1.0
    style = "gauge-full" if share > 1 else "gauge-near" if share > NEARLY else ""
    name = "mem " if short else "memory "
    return [
        Span(name, "gauge-name"),
        Span(f"{_bytes(now)}/{_bytes(plan.available)}", style),
    ]


def _speed(gauges: Gauges) -> list[Span]:
    if gauges.writing is None:
        return []
    return [Span(f"{gauges.writing:.1f}"), Span(" tok/s", "gauge-name")]


def _reading(gauges: Gauges) -> list[Span]:
    if gauges.reading is None:
        return []
    return [Span("read ", "gauge-name"), Span(f"{gauges.reading:,.0f}"), Span(" tok/s", "gauge-name")]


def _energy(gauges: Gauges) -> list[Span]:
    if gauges.joules is None:
        return []
    return [Span(f"{gauges.joules:.0f}"), Span(" J", "gauge-name")]


def _bytes(count: int) -> str:
    """``312M``, ``20.1G``."""
    if count >= 10 << 30:
        return f"{count / (1 << 30):.0f}G"
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f}G"
    return f"{count / (1 << 20):.0f}M"
