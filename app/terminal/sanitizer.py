"""Text in, text out that a terminal prints and does nothing else with."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain

from app.terminal.characters import (
    BEFORE_EMOJI_ZWJ,
    BLACK_FLAG,
    CONTEXT,
    FLAG_TAGS,
    KEYCAP,
    KEYCAP_BASES,
    MARK,
    NEEDS,
    PICTOGRAPHS,
    VS16,
    ZWJ,
    Shown,
    join_surrogates,
    marker,
    unplain_runs,
)

MARK_LIMIT = 8
"""Combining marks that one base may carry.

The longest stack in use is Tibetan, eight below one letter (U+0F67 0F90 0FB5 0FA8 0FB3 0FBA 0FBC 0FBB 0F82);
pointed Hebrew with cantillation takes six, Burmese and Vedic Sanskrit seven or less, Thai and Vietnamese two.
"""

_UNPLAIN_ASCII = re.compile(r"[^\n\t -~]+")
_UNDECIDED = re.compile("(?:\r|\u200d|\ufe0f|[\U000e0061-\U000e007a]{1,5})?[\ud800-\udbff]?\\Z")
"""The end of a text if its meaning hangs on what comes next."""
_UNDECIDED_LENGTH = 6
_UNDECIDED_LAST = re.compile("[\r\u200d\ufe0f\U000e0061-\U000e007a\ud800-\udbff]")

_SHOWN = Shown()
_SHORT = 16


class Sanitizer:
    """Sanitises a text that arrives in pieces; the pieces may be cut anywhere.

    What ``feed`` and ``flush`` return, put together, is ``sanitize`` of the pieces put together. At most the
    last six characters (``\\r``, a joiner, the tags of a flag) are held back until the next piece shows what
    they are; memory is constant. With ``newlines`` false, ``\\n`` and ``\\t`` are shown as ``␊`` and ``␉``.
    """

    __slots__ = ("_held", "_marks", "_newlines", "_previous", "_surplus")

    def __init__(self, *, newlines: bool = True) -> None:
        self._newlines = newlines
        self._held = ""  # the undecided end of the source so far
        self._previous = ""  # the last character if it was passed on: what a joiner would follow
        self._marks = 0  # combining marks on the present base
        self._surplus = 0  # marks beyond the limit, not yet shown as a count

    def feed(self, text: str) -> str:
        """The next piece; returns what is decided of the text so far and was not yet returned."""
        return self._take(self._held + text, final=False)

    def flush(self) -> str:
        """The text is over; returns the rest of it. The next ``feed`` begins a new text."""
        rest = self._take(self._held, final=True)
        self._held = self._previous = ""
        self._marks = 0
        return rest

    def _take(self, text: str, *, final: bool) -> str:
        unplain = _UNPLAIN_ASCII if text.isascii() else unplain_runs()
        if self._surplus or unplain.search(text) is not None:
            text = self._scan(self._decided(text, final), unplain, final)
        elif text:
            self._previous = text[-1]
            self._marks = 0
        return text if self._newlines else text.replace("\n", "\u240a").replace("\t", "\u2409")

    def _decided(self, text: str, final: bool) -> str:
        """``text`` with surrogate pairs joined, without its undecided end, which is held back."""
        text = join_surrogates(text)
        self._held = ""
        if final or not _UNDECIDED_LAST.match(text[-1:]):
            return text
        end = text[-_UNDECIDED_LENGTH:]
        decided = _UNDECIDED.sub("", end)
        self._held = end[len(decided) :]
        return text[: len(text) - len(self._held)]

    def _scan(self, text: str, unplain: re.Pattern[str], final: bool) -> str:
        length = len(text)
        if length < _SHORT:  # look at every character, which is cheaper than to find those that need it
            spans: Iterable[tuple[int, int]] = ((0, length),)
        else:
            spans = chain((run.span() for run in unplain.finditer(text)), ((length, length),))
        out: list[str] = []
        position = 0
        previous, marks = self._previous, self._marks
        for index, end in spans:
            if position < index:
                if self._surplus:
                    out.append(self._count())
                out.append(text[position:index])
                previous, marks = text[index - 1], 0
            position = end
            while index < end:
                char = text[index]
                index += 1
                shown = _SHOWN[char]
                if shown is MARK:
                    if marks < MARK_LIMIT:
                        out.append(char)
                        previous = char
                        marks += 1
                    else:
                        previous = ""
                        self._surplus += 1
                    continue
                if shown is CONTEXT:
                    if char == "\r" and text.startswith("\n", index):
                        continue
                    admitted = _admitted(text, index - 1, previous)
                    if admitted:
                        out.append(admitted)
                        previous = admitted[-1]
                        index += len(admitted) - 1
                        continue
                    shown = marker(char)
                if self._surplus:
                    out.append(self._count())
                out.append(shown)
                previous, marks = char if shown == char else "", 0
        if final and self._surplus:
            out.append(self._count())
        self._previous, self._marks = previous, marks
        return "".join(out)

    def _count(self) -> str:
        surplus, self._surplus = self._surplus, 0
        return f"<+{surplus} marks>"


def _admitted(text: str, index: int, previous: str) -> str:
    """What of the invisible characters at ``index`` may pass after ``previous``; empty if nothing may."""
    if not previous:
        return ""
    char, following = text[index], text[index + 1 : index + 2]
    bases = NEEDS.get(char)
    if bases is not None and previous in bases:
        return char
    if char == ZWJ and following and following in PICTOGRAPHS:
        return char if previous in BEFORE_EMOJI_ZWJ else ""
    if char == VS16 and following == KEYCAP:
        return char if previous in KEYCAP_BASES else ""
    if previous == BLACK_FLAG and text.startswith(FLAG_TAGS, index):
        return text[index : index + len(FLAG_TAGS[0])]
    return ""


def sanitize(text: str, *, newlines: bool = True) -> str:
    """``text`` as a terminal may get it. Pure and idempotent; harmless text comes back unchanged.

    ``newlines`` false is for places of one line (names, cells, titles): ``\\n`` and ``\\t`` are shown too.
    """
    sanitizer = Sanitizer(newlines=newlines)
    return sanitizer.feed(text) + sanitizer.flush()
