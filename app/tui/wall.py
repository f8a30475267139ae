"""The second wall: whatever a widget renders, no control character leaves for the terminal within a line.

Textual writes the text of its segments as it is (``ESC`` and C1 included). Texts from outside are made
harmless where they come in; this catches what a widget let through all the same.
"""

from __future__ import annotations

import re
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from app.terminal import sanitize

SUSPECT: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff"
    "\ud800-\udfff\ue000-\uf8ff\U000e0000-\U0010ffff]"
)


class Wall(LineFilter):
    """Shows what must not pass, in as many cells as it had before."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """``segments`` themselves where nothing is suspect."""
        if not any(SUSPECT.search(segment.text) for segment in segments):
            return segments
        return [self._safe(segment) for segment in segments]

    @staticmethod
    def _safe(segment: Segment) -> Segment:
        if not SUSPECT.search(segment.text):
            return segment
        width = cell_len(segment.text)
        text = sanitize(segment.text, newlines=False)
        while cell_len(text) > width:
            text = text[:-1]
        return Segment(text + " " * (width - cell_len(text)), segment.style, segment.control)
