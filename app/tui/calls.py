"""Tool calls in what a model says, told from the text around them while both come in pieces.

This app gives a model no tools; a model that was trained to use some may call them all the same, and so do
chats of other programs. Only a mark at the beginning of a line counts, and none within a code block.
"""

from __future__ import annotations

import json
from typing import Final, Literal, NamedTuple

MARKS: Final = (("<tool_call>", "</tool_call>"), ("<function_call>", "</function_call>"))
FENCES: Final = ("```", "~~~")


class Part(NamedTuple):
    """Text of one kind; ``call`` begins a new call with each ``begins``."""

    kind: Literal["said", "call"]
    text: str
    begins: bool = False


class CallSplitter:
    """Splits a text; its pieces may be cut anywhere."""

    def __init__(self) -> None:
        self._held = ""
        self._end = ""
        """The mark that ends the call that is read; empty outside of one."""
        self._line_start = True
        self._fence = ""

    def feed(self, text: str) -> list[Part]:
        """What is decided of the text so far and was not yet returned."""
        self._held += text
        parts: list[Part] = []
        while self._step(parts):
            pass
        return parts

    def flush(self) -> list[Part]:
        """The text is over; the rest of it."""
        rest, self._held = self._held, ""
        return [Part("call" if self._end else "said", rest)] if rest else []

    def _step(self, parts: list[Part]) -> bool:
        if self._end:
            return self._in_call(parts)
        if not self._held:
            return False
        if self._line_start and not self._fence:
            for start, end in MARKS:
                if self._held.startswith(start):
                    self._held, self._end = self._held[len(start) :], end
                    parts.append(Part("call", "", begins=True))
                    return True
            if any(start.startswith(self._held) for start, _ in MARKS):
                return False
        return self._line(parts)

    def _line(self, parts: list[Part]) -> bool:
        """To the end of the line, or as far as it came."""
        line, newline, rest = self._held.partition("\n")
        if self._line_start:
            bare = line.lstrip()
            if not newline and any(fence.startswith(bare[:3]) for fence in FENCES) and len(bare) < 3:
                return False
            for fence in FENCES:
                if bare.startswith(fence) and self._fence in ("", fence):
                    self._fence = "" if self._fence else fence
                    break
        parts.append(Part("said", line + newline))
        self._held, self._line_start = rest, bool(newline)
        return bool(rest)

    def _in_call(self, parts: list[Part]) -> bool:
        inside, mark, rest = self._held.partition(self._end)
        if mark:
            parts.append(Part("call", inside))
            self._held, self._end, self._line_start = rest, "", True
            return bool(self._held)
        keep = next(
            (size for size in range(len(self._end) - 1, 0, -1) if self._held.endswith(self._end[:size])), 0
        )
        certain = self._held[: len(self._held) - keep]
        if certain:
            parts.append(Part("call", certain))
        self._held = self._held[len(certain) :]
        return False


def name_of(call: str) -> str:
    """The function that a call names; empty where that cannot be read."""
    try:
        document = json.loads(call)
    except (ValueError, RecursionError):
        return ""
    name = document.get("name") if isinstance(document, dict) else None
    return name if isinstance(name, str) else ""
