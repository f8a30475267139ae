"""Which words of a text a search finds, and what a person's search asks for.

The index cuts words at spaces and punctuation. Languages that write none between words are cut into letters
first, so that any part of such a text is found; a search cuts its words in the same way and asks for the
letters in a row.

:func:`words` decides what is in the index. Changing it needs a migration that makes the index again: words
are taken out by saying them.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_UNSPACED: Final = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"  # CJK
)
_ASKED: Final = re.compile(r'(-?)"([^"]*)("?)|(\S+)')
MOST_WORDS: Final = 16
EXCERPT_CHARACTERS: Final = 200
_BEFORE: Final = 60
_SEARCHED_CHARACTERS: Final = 200_000


def words(text: str) -> str:
    """``text`` as the index gets it."""
    if text.isascii():
        return text
    return _UNSPACED.sub(r" \g<0> ", text).encode("utf-8", "replace").decode()


class Query:
    """What was typed into a search: words, ``"phrases"``, and ``-without``. The last word may be unfinished.

    ``expression`` is FTS5's, and empty where nothing is asked for.
    """

    def __init__(self, typed: str) -> None:
        self.terms: list[str] = []
        """What an excerpt should show."""
        wanted, unwanted = [], []
        for match in list(_ASKED.finditer(typed))[:MOST_WORDS]:
            minus, phrase, closed, word = match.groups()
            term = phrase if word is None else word.replace('"', " ")
            without = bool(minus) or (word is not None and word.startswith("-") and len(word) > 1)
            finished = bool(closed) or match.end() < len(typed)
            if not re.search(r"\w", term):
                continue
            expression = _phrase(words(term.lstrip("-") if without else term), prefix=not finished)
            if without:
                unwanted.append(expression)
            else:
                wanted.append(expression)
                self.terms.append(term)
        self.expression = " AND ".join(wanted)
        if wanted and unwanted:
            self.expression = f"({self.expression}) NOT ({' OR '.join(unwanted)})"

    def excerpt(self, text: str) -> tuple[str, tuple[tuple[int, int], ...]]:
        """A line of ``text`` around the first term in it, and where the terms are in that line."""
        start = 0
        for term in self.terms:
            found = _find(term, text[:_SEARCHED_CHARACTERS])
            if found:
                start = found[0][0]
                break
        line_start = max(0, start - _BEFORE)
        piece = text[line_start : line_start + EXCERPT_CHARACTERS]
        line = re.sub(r"\s+", " ", piece).strip()
        if line_start > 0:
            line = f"…{line}"
        if line_start + EXCERPT_CHARACTERS < len(text):
            line += "…"
        spans = sorted({span for term in self.terms for span in _find(term, line)})
        return line, tuple(_merged(spans))


def _phrase(text: str, *, prefix: bool) -> str:
    """An FTS5 string, in which nothing is an operator."""
    return '"' + text.replace("\0", " ").strip() + '"' + ("*" if prefix else "")


def _find(term: str, text: str) -> list[tuple[int, int]]:
    """Where the words of ``term`` stand in a row in ``text``, as the index sees both."""
    parts = [re.escape(part) for part in re.findall(r"\w+", term)]
    if not parts:
        return []
    pattern = r"\W+".join(parts)
    first = pattern[:1].isascii()
    found = [match.span() for match in re.finditer((r"\b" if first else "") + pattern, text, re.IGNORECASE)]
    if found or (term.isascii() and text.isascii()):
        return found
    folded, places = _folded(text)
    plain = r"\W+".join(re.escape(part) for part in re.findall(r"\w+", _folded(term)[0]))
    return [
        (places[match.start()], places[match.end() - 1] + 1)
        for match in re.finditer(plain, folded)
        if match.end() > match.start()
    ]


def _folded(text: str) -> tuple[str, list[int]]:
    """``text`` in lower case without diacritics, and where each of its characters came from."""
    folded: list[str] = []
    places: list[int] = []
    for index, char in enumerate(text):
        for part in unicodedata.normalize("NFD", char.lower()):
            if unicodedata.category(part) != "Mn":
                folded.append(part)
                places.append(index)
    return "".join(folded), places


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
