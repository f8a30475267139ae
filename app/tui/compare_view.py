"""How a comparison reads: answers with their tokens coloured, and what follows from them. Pure."""

from __future__ import annotations

import codecs
from typing import Final

from rich.text import Text

from app.terminal import Sanitizer
from app.tui.comparing import Compared

LEVELS: Final = ((0.5, "black on red"), (0.1, "black on yellow"), (0.02, "underline"))
"""Nats at a token, and how it is shown."""
PARTING: Final = "bold reverse"


def style_of(divergence: float) -> str:
    """Of a token."""
    return next((style for level, style in LEVELS if divergence >= level), "")


LEGEND: Final = Text.assemble(
    "divergence in nats:  ",
    ("below 0.02", ""),
    "  ",
    (" 0.02 ", "underline"),
    "  ",
    (" 0.1 ", "black on yellow"),
    "  ",
    (" 0.5 ", "black on red"),
    "   ",
    (" first different token ", PARTING),
    no_wrap=True,
    overflow="ellipsis",
)


def answer_text(seen: Compared, *, left: bool) -> Text:
    """One side. The divergences stand on the left, for they are by the tokens of that answer."""
    steps = seen.first if left else seen.second
    parting = seen.parting
    text, sanitizer, style = Text(), Sanitizer(), ""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may be cut between tokens
    for number, step in enumerate(steps):
        style = style_of(seen.divergence[number]) if left and number < len(seen.divergence) else ""
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
