"""How what can be had reads: a row, and what is known of one. Pure."""

from __future__ import annotations

from typing import Final

from rich.text import Text

from app.cli.fitting import nats
from app.cli.text import format_parameters, shorten
from app.terminal import sanitize
from app.tui.machine import Facts
from app.tui.offers import Offer
from app.tui.palette import PLAIN, Palette
from runtime.units import format_bytes

COLUMNS: Final = (("WEIGHTS", 9), ("BITS", 5), ("FILE", 9), ("QUALITY", 12), ("TOK/S", 6))
OTHERS: Final = 2 + sum(width + 1 for _, width in COLUMNS)
LEAST_NAME, MOST_NAME = 20, 32
LEAST_ABOUT: Final = 16
LEAST_NATS: Final = 0.0005
"""Below it no evaluation tells a file from its original."""


def name_columns(width: int) -> int:
    """What a row of ``width`` columns leaves for the name."""
    return min(MOST_NAME, max(LEAST_NAME, width - OTHERS))


def header_text(width: int, palette: Palette = PLAIN) -> Text:
    """What stands above the rows."""
    titles = " ".join(f"{title:>{room}}" for title, room in COLUMNS)
    about = "  GOOD FOR" if width - name_columns(width) - OTHERS - 2 >= LEAST_ABOUT else ""
    return Text(f"  {'MODEL':<{name_columns(width)}} {titles}{about}", palette.muted, no_wrap=True)


def row_text(offer: Offer, best: bool, here: bool, width: int, palette: Palette = PLAIN) -> Text:
    """A line of the list: ``best`` for this machine, or ``here`` already."""
    text = Text("★ " if best else "● " if here else "  ", no_wrap=True, overflow="ellipsis")
    columns = name_columns(width)
    name = shorten(sanitize(offer.title, newlines=False), columns)
    if offer.kind in ("demo", "file"):
        text.append(f"{name:<{columns}}", "bold")
        about = shorten(sanitize(offer.about, newlines=False), max(0, width - columns - 3))
        text.append(f" {about}", palette.muted)
        return text
    dim = not offer.fits
    text.append(f"{name:<{columns}}", palette.muted if dim else "bold")
    for number, (cell, (_, room)) in enumerate(zip(cells(offer), COLUMNS, strict=True)):
        exact = number == 0 or (offer.result is not None and offer.result.size_bytes is not None)
        text.append(f" {shorten(cell, room):>{room}}", palette.muted if dim or not exact else "")
    left = width - columns - OTHERS - 2
    if left >= LEAST_ABOUT:
        text.append(f"  {shorten(sanitize(offer.about, newlines=False), left)}", palette.muted)
    return text


def cells(offer: Offer) -> tuple[str, ...]:
    """Weights, bits, size, quality and speed, as far as they are known; rough ones with a tilde."""
    result, bits, speed = offer.result, offer.bits, offer.tokens_per_second
    weights = offer.weights
    if not offer.fits:
        return (weights, "", "", "too large", "")
    if result is None or result.size_bytes is None:
        about = f"~{speed:.0f}" if speed is not None else ""
        size = f"~{offer.rough_bytes / (1 << 30):.1f} GiB" if offer.rough_bytes else ""
        return (weights, f"~{bits:.1f}" if bits is not None else "", size, "", about)
    return (
        weights,
        f"{bits:.1f}" if bits is not None else "",
        format_bytes(result.size_bytes),
        quality(result.nats),
        f"{speed:.0f}" if speed is not None else "",
    )


def quality(foreseen: float | None) -> str:
    """How far from the original a file would be."""
    if foreseen is None:
        return ""
    return nats(foreseen) if foreseen >= LEAST_NATS else "as original"


def about_text(offer: Offer | None, palette: Palette = PLAIN) -> Text:
    """Two lines on the row under the cursor."""
    if offer is None:
        return Text()
    if offer.kind in ("demo", "file"):
        more = f"{offer.license}." if offer.license else ""
        return Text(f"{offer.about}\n{more}", palette.muted, no_wrap=True, overflow="ellipsis")
    text = Text(no_wrap=True, overflow="ellipsis")
    said = [offer.about, offer.license]
    result = offer.result
    if result is not None and result.gated:
        said.append("for those whom its makers let in")
    text.append(sanitize(" · ".join(filter(None, said)), newlines=False))
    text.append("\n")
    if result is None:
        text.append("The figures with a tilde are of its name alone; the Hub says more.", palette.muted)
    elif result.size_bytes is None or not result.fits:
        text.append(sanitize(result.verdict, newlines=False), palette.warning)
    else:
        trained = f"trained for {result.context:,} tokens" if result.context else ""
        fetched = f"fetches {format_bytes(result.fetched_bytes)}" if result.fetched_bytes else ""
        needed = f"runs in {format_bytes(result.needed_bytes)}" if result.needed_bytes else ""
        text.append(" · ".join(filter(None, (fetched, needed, trained))), palette.muted)
    return text


def machine_text(facts: Facts, palette: Palette = PLAIN) -> Text:
    """What decides which models run here, in a line or two."""
    if facts.problem:
        return Text(f"This machine could not be looked at: {sanitize(facts.problem)}", palette.warning)
    text = Text(no_wrap=True, overflow="ellipsis")
    for number, (name, value) in enumerate(
        (
            ("memory", f"{format_bytes(facts.available)} of {format_bytes(facts.total)}"),
            ("cores", f"{facts.cores}, {facts.isa}"),
            ("disk", f"{format_bytes(facts.disk_free)} free"),
        )
    ):
        text.append("   " if number else "").append(f"{name} ", palette.muted).append(value)
    parts = []
    if facts.largest_weights > 1e8:
        parts.append(f"room for about {format_parameters(int(facts.largest_weights))} weights of 4 to 5 bits")
    if facts.bandwidth:
        parts.append(f"memory reads {format_bytes(int(facts.bandwidth))}/s")
    return text.append("\n" + "   ".join(parts), palette.muted)
