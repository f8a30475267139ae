"""How a comparison reads: answers with their tokens coloured, and what follows from them. Pure."""

from __future__ import annotations

import codecs
from typing import Final

from rich.style import Style
from rich.text import Text

from app.terminal import Sanitizer
from app.tui.comparing import Compared
from app.tui.palette import PLAIN, Palette

LEVELS: Final = (0.02, 0.1, 0.5)
"""Nats at a token, from which on it is shown otherwise."""
PARTING: Final = Style(bold=True, reverse=True)
NOTHING: Final = Style()


def style_of(divergence: float, palette: Palette = PLAIN) -> Style:
    """Of a token."""
    styles = (palette.mild, palette.strong, palette.extreme)
    return next(
        (style for level, style in zip(LEVELS[::-1], styles[::-1], strict=True) if divergence >= level),
        NOTHING,
    )


def legend_text(palette: Palette = PLAIN) -> Text:
    """What the colours mean."""
    text = Text("divergence in nats  below 0.02", no_wrap=True, overflow="ellipsis")
    for level in LEVELS:
        text.append("  ").append(f" {level:g} ", style_of(level, palette))
    return text.append("   ").append(" first different token ", PARTING)


def answer_text(seen: Compared, *, left: bool, palette: Palette = PLAIN) -> Text:
    """One side. The divergences stand on the left, for they are by the tokens of that answer."""
    steps = seen.first if left else seen.second
    parting = seen.parting
    text, sanitizer, style = Text(), Sanitizer(), NOTHING
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may be cut between tokens
    for number, step in enumerate(steps):
        known = left and number < len(seen.divergence)
        style = style_of(seen.divergence[number], palette) if known else NOTHING
        if number == parting:
            style = PARTING
        text.append(sanitizer.feed(decoder.decode(step.text)), style)
    text.append(sanitizer.feed(decoder.decode(b"", final=True)) + sanitizer.flush(), style)
    return text


def summary_text(seen: Compared) -> Text:
    """Where the answers part, and the divergences in figures."""
    parts = [seen.doing] if seen.doing else []
    parting = seen.parting
    if parting is not None:
        most = max(len(seen.first), len(seen.second))
        parts.append(f"first different token: {parting + 1} of {most}")
    elif not seen.doing and seen.first:
        parts.append(f"the same {len(seen.first)} tokens")
    count = len(seen.divergence)
    if count:
        mean = sum(seen.divergence) / count
        same = sum(seen.agrees) / count
        worst = max(seen.divergence)
        parts.append(f"divergence {mean:.4f} a token, at most {worst:.2f}")
        parts.append(f"same top token {same:.0%} of {count}")
    elif not seen.comparable:
        parts.append("other vocabularies: only the texts can be compared")
    return Text(" · ".join(parts))
