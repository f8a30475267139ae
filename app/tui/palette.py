"""The theme's colours for texts that are drawn outside of CSS."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from rich.style import Style


@dataclass(frozen=True)
class Palette:
    """Styles by what they mean. Without a theme the terminal's own colours."""

    primary: Style = field(default_factory=lambda: Style.parse("blue"))
    accent: Style = field(default_factory=lambda: Style.parse("yellow"))
    muted: Style = field(default_factory=lambda: Style.parse("dim"))
    warning: Style = field(default_factory=lambda: Style.parse("yellow"))
    error: Style = field(default_factory=lambda: Style.parse("red"))
    mild: Style = field(default_factory=lambda: Style.parse("underline"))
    strong: Style = field(default_factory=lambda: Style.parse("black on yellow"))
    extreme: Style = field(default_factory=lambda: Style.parse("black on red"))
    """Behind tokens, as they are further apart."""


PLAIN: Final = Palette()


def palette_of(app: Any) -> Palette:
    """That of the theme that is chosen now."""
    from textual.color import Color

    variables = app.theme_variables

    def colour(name: str) -> Color:
        return Color.parse(variables[name])

    def plain(name: str) -> Style:
        return Style(color=colour(name).rich_color)

    def behind(name: str) -> Style:
        found = colour(name)
        text = found.get_contrast_text(1.0) if found.ansi is None else Color.parse("ansi_black")
        return Style(color=text.rich_color, bgcolor=found.rich_color)

    return Palette(
        primary=plain("primary"),
        accent=plain("accent"),
        warning=plain("warning"),
        error=plain("error"),
        mild=plain("accent"),
        strong=behind("warning"),
        extreme=behind("error"),
    )
