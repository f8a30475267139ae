"""What the styles of Markdown and of a transcript look like, as rules of a widget that draws them."""

from __future__ import annotations

from typing import Final

from rich.style import Style
from textual.widget import Widget

STYLES: Final = (
    "strong", "em", "code", "strike", "link", "url", "h1", "h2", "h3", "bullet", "quote-bar", "rule",
    "table-head", "code-bar", "action", "fence", "comment", "keyword", "string", "number", "builtin",
    "function", "class", "decorator", "inserted", "deleted", "you", "model", "meta", "branch", "attachment",
    "warning", "thoughts", "thoughts-head", "gutter-you", "gutter-model", "gutter-cursor",
)  # fmt: skip

RULES: Final = """
    & > .md--strong { text-style: bold; }
    & > .md--em { text-style: italic; }
    & > .md--strike { text-style: strike; }
    & > .md--code { color: $text-accent; }
    & > .md--link { text-style: underline; }
    & > .md--url { color: $text-muted; }
    & > .md--h1 { color: $text-primary; text-style: bold underline; }
    & > .md--h2 { color: $text-primary; text-style: bold; }
    & > .md--h3 { text-style: bold; }
    & > .md--bullet { color: $text-primary; }
    & > .md--quote-bar { color: $text-secondary; }
    & > .md--rule { color: $text-disabled; }
    & > .md--table-head { text-style: bold; }
    & > .md--code-bar { color: $text-disabled; }
    & > .md--action { color: $text-muted; text-style: underline; }
    & > .md--comment { color: $text-muted; text-style: italic; }
    & > .md--keyword { color: $text-accent; }
    & > .md--string { color: $text-success; }
    & > .md--number { color: $text-warning; }
    & > .md--builtin { color: $text-secondary; }
    & > .md--function { color: $text-primary; }
    & > .md--class { color: $text-primary; text-style: bold; }
    & > .md--decorator { color: $text-warning; }
    & > .md--inserted { color: $text-success; }
    & > .md--deleted { color: $text-error; }
    & > .md--you { color: $text-secondary; text-style: bold; }
    & > .md--model { color: $text-primary; text-style: bold; }
    & > .md--meta { color: $text-muted; }
    & > .md--branch { color: $text-accent; }
    & > .md--attachment { color: $text-secondary; }
    & > .md--warning { color: $text-warning; }
    & > .md--thoughts { color: $text-muted; }
    & > .md--thoughts-head { color: $text-muted; text-style: italic; }
    & > .md--gutter-you { color: $secondary; }
    & > .md--gutter-model { color: $primary-muted; }
    & > .md--gutter-cursor { color: $accent; }
    & > .md--cursor { background: $foreground 8%; }
"""


TRANSCRIPT_CSS: Final = (
    """
Transcript {
    background: $background;
    color: $foreground;
    overflow-x: hidden;
    overflow-y: scroll;
    scrollbar-size-vertical: 1;
    scrollbar-gutter: stable;
    scrollbar-color: $foreground 20%;
    scrollbar-background: $background;
"""
    + RULES
    + "}"
)


def component_classes() -> set[str]:
    """Those that a widget with these rules has."""
    return {f"md--{name}" for name in STYLES} | {"md--cursor"}


def component_style(widget: Widget, name: str, *, background: bool = False) -> Style:
    """A component's style to lay over the widget's own: its colour as it is on that background.

    (Textual's partial style leaves out what is muted: of ``$text-muted`` it keeps the colour that would be
    readable on no background.) None for a class that the widget does not have.
    """
    if name not in widget.COMPONENT_CLASSES:
        return Style()
    found = widget.get_visual_style(name).rich_style
    own = widget.get_component_rich_style(name, partial=True)
    colour = found.color if widget.get_component_styles(name).has_rule("color") else None
    return Style.combine(
        [own.without_color, Style(color=colour, bgcolor=found.bgcolor if background else None)]
    )
