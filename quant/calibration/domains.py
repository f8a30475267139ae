"""Each domain's texts as one running text, from whose beginning any length is a fair sample of the domain.

texts = [EvaluationText(domain, text) for domain, text in by_domain(builtin("evaluation")).items()]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from quant.calibration.text import CalibrationText

PIECE_CHARACTERS: Final = 3_000
"""About two contexts of 512 tokens: long enough to be read as what it is."""
GOLDEN_RATIO: Final = 0.6180339887498949


def by_domain(texts: Iterable[CalibrationText], *, piece: int = PIECE_CHARACTERS) -> dict[str, str]:
    """Domain -> text, in the order in which the domains first occur; the same texts give the same result.

    Documents are cut at ends of lines into pieces of about ``piece`` characters. The pieces of each are
    spread evenly over the whole, in their order, so that a first part of it holds about that part of every
    document.
    Of a conversation the contents are taken, one after the other, since its template is the model's.
    """
    if piece < 1:
        raise ValueError(f"pieces of {piece} characters hold nothing; use 1 or more")
    places: dict[str, list[tuple[float, int, str]]] = {}
    for number, text in enumerate(texts):
        pieces = list(_pieces(_running(text), piece))
        found = places.setdefault(text.domain, [])
        start = number * GOLDEN_RATIO % 1  # short documents would all meet in the middle
        found.extend(((at + start) / len(pieces), number, content) for at, content in enumerate(pieces))
    return {
        domain: "\n\n".join(content.strip("\n") for _, _, content in sorted(found)) + "\n"
        for domain, found in places.items()
    }


def _running(text: CalibrationText) -> str:
    return text.text or "\n\n".join(message["content"] for message in text.messages)


def _pieces(content: str, piece: int) -> Iterator[str]:
    """Parts of at least ``piece`` characters but the last, that end where a line ends."""
    lines: list[str] = []
    length = 0
    for line in content.splitlines(keepends=True):
        lines.append(line)
        length += len(line)
        if length >= piece:
            yield "".join(lines)
            lines, length = [], 0
    if lines:
        yield "".join(lines)
