"""Colours: two of our own, beside those that Textual brings."""

from __future__ import annotations

from typing import Final

from textual.theme import Theme

DEFAULT: Final = "localq-dark"
COLOURLESS: Final = "ansi-dark"
"""With ``NO_COLOR``: of this theme nothing is left but bold, dim, underlined and reversed."""

THEMES: Final = (
    Theme(
        name="localq-dark",
        primary="#7aa2f7",
        secondary="#7dcfb6",
        accent="#e0af68",
        warning="#e0af68",
        error="#f7768e",
        success="#9ece6a",
        foreground="#d5d8e3",
        background="#14161c",
        surface="#1b1e27",
        panel="#232733",
        dark=True,
        variables={"border": "#7aa2f7", "border-blurred": "#2f3545", "footer-key-foreground": "#7aa2f7"},
    ),
    Theme(
        name="localq-light",
        primary="#2e5cb8",
        secondary="#137a63",
        accent="#9a5b00",
        warning="#9a5b00",
        error="#b3261e",
        success="#2f7d32",
        foreground="#1f2430",
        background="#fbfbf9",
        surface="#f1f1ee",
        panel="#e6e6e1",
        dark=False,
        variables={"border": "#2e5cb8", "border-blurred": "#c9c9c2", "footer-key-foreground": "#2e5cb8"},
    ),
)
