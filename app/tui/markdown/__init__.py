"""Markdown as lines of styled text, while it is still being written.

A whole message is one column of lines, not a tree of widgets: two hundred answers take a few megabytes, and
what is appended costs what the last block costs, however long the text before it is. Pure: nothing here knows
of a screen, a theme or a terminal. The text that comes in must already be safe to show.
"""

from __future__ import annotations

from app.tui.markdown.document import Document
from app.tui.markdown.lines import Code, Line, Span
from app.tui.markdown.picture import Look, Picture

__all__ = ["Code", "Document", "Line", "Look", "Picture", "Span"]
