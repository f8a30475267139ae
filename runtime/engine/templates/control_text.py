"""Control tokens inside a text: where they are, and a rendered prompt cut at them.

The rule is that of llama.cpp's tokenizer (``tokenizer_st_partition``): every control token in turn, the
longest text (in bytes) first, takes all its occurrences out of what is still plain text. Where no control
text begins with the end of another one, which holds for nearly all vocabularies, this is the same as taking
the longest match at the leftmost place, and is done that way.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from runtime.engine.messages import Prompt

Span = tuple[int, int]

HEAD = 3
"""Control texts are looked up by their first characters: three keep ``<|im_end|>`` and ``<s>`` apart."""

BORDER_WORK = 4_000_000
"""Characters that may be spent on proving that control texts do not overlap; else they are assumed to."""


class Piece(NamedTuple):
    """A stretch of a prompt: one control token, or text in which no control token may be read."""

    text: str
    is_control: bool


class ControlFinder:
    """Finds control texts in a text. Immutable; 1 MiB of plain text takes some 10 ms."""

    def __init__(self, control_texts: Iterable[str]) -> None:
        self.texts = frozenset(filter(None, control_texts))
        if _overlap(self.texts):
            by_bytes: dict[int, set[str]] = {}
            for text in self.texts:
                by_bytes.setdefault(len(text.encode("utf-8", "surrogatepass")), set()).add(text)
            self._passes = [_Matcher(by_bytes[length]) for length in sorted(by_bytes, reverse=True)]
        else:
            self._passes = [_Matcher(self.texts)] if self.texts else []

    def spans(self, text: str) -> list[Span]:
        """Where the control tokens of ``text`` are: (start, end), ascending, without overlaps."""
        found: list[Span] = []
        for matcher in self._passes:
            gaps = _gaps(found, len(text))
            found = sorted([*found, *(span for gap in gaps for span in matcher.matches(text, *gap))])
        return found


class _Matcher:
    """Leftmost-longest search for a set of texts, by a table of their first characters."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = frozenset(texts)
        heads: dict[str, set[int]] = {}
        for text in self._texts:
            heads.setdefault(text[:HEAD], set()).add(len(text))
        self._lengths = {head: sorted(lengths, reverse=True) for head, lengths in heads.items()}
        self._head_sizes = sorted({len(head) for head in heads}, reverse=True)
        self._head = re.compile("|".join(_head_patterns(heads)))

    def matches(self, text: str, start: int, end: int) -> Iterator[Span]:
        search = self._head.search
        candidate = search(text, start, end)
        while candidate is not None:
            place = candidate.start()
            length = self._longest(text, place, end)
            if length:
                yield place, place + length
            candidate = search(text, place + (length or 1), end)

    def _longest(self, text: str, place: int, end: int) -> int:
        for size in self._head_sizes:
            for length in self._lengths.get(text[place : place + size], ()):
                if place + length <= end and text[place : place + length] in self._texts:
                    return length
        return 0


@functools.lru_cache(maxsize=8)
def control_finder(control_texts: tuple[str, ...]) -> ControlFinder:
    """The finder for a vocabulary's control texts, kept for the next prompts."""
    return ControlFinder(control_texts)


def split_prompt(prompt: Prompt, control_texts: tuple[str, ...]) -> list[Piece]:
    """Cut a prompt at the control tokens that its template wrote, and put the user's text back.

    The texts of all pieces, joined, are the conversation as its template rendered it. Pieces that are no
    control token are to be tokenised with ``parse_special=False``. Without ``prompt.protected`` there is
    nothing of a user's to guard, and the whole text may be tokenised at once instead: it has the same control
    tokens.
    """
    if not prompt.parse_special:
        return [Piece(_restored(prompt.text, prompt), False)] if prompt.text else []
    pieces: list[Piece] = []
    place = 0
    for start, end in [
        *control_finder(control_texts).spans(prompt.text),
        (len(prompt.text), len(prompt.text)),
    ]:
        if start > place:
            pieces.append(Piece(_restored(prompt.text[place:start], prompt), False))
        if end > start:
            pieces.append(Piece(prompt.text[start:end], True))
        place = end
    return pieces


def _restored(text: str, prompt: Prompt) -> str:
    if not prompt.protected:
        return text
    return _placeholders(tuple(prompt.protected)).sub(lambda found: prompt.protected[found[0]], text)


@functools.lru_cache(maxsize=8)
def _placeholders(placeholders: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(placeholders, key=len, reverse=True))))


def _gaps(spans: list[Span], end: int) -> Iterator[Span]:
    """The stretches between ``spans`` that are not empty."""
    place = 0
    for start, stop in [*spans, (end, end)]:
        if start > place:
            yield place, start
        place = stop


def _head_patterns(heads: Iterable[str]) -> Iterator[str]:
    """A pattern for each first character: it, and the second and third ones that may follow."""
    tree: dict[str, dict[str, set[str]]] = {}
    for head in heads:
        tree.setdefault(head[0], {}).setdefault(head[1:2], set()).add(head[2:])
    for first, seconds in tree.items():
        if "" in seconds:
            yield re.escape(first)
        else:
            rest = (
                re.escape(second) + ("" if "" in thirds else f"[{re.escape(''.join(sorted(thirds)))}]")
                for second, thirds in seconds.items()
            )
            yield f"{re.escape(first)}(?:{'|'.join(rest)})"


def _overlap(texts: frozenset[str]) -> bool:
    """Whether the end of one text may be the start of another, so that matches may overlap."""
    if sum(len(text) ** 2 for text in texts) > BORDER_WORK:
        return True
    starts = {text[:size] for text in texts for size in range(1, len(text))}
    return any(text[place:] in starts for text in texts for place in range(1, len(text)))
