"""Code with the colours of its language."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from app.tui.markdown.lines import Span

if TYPE_CHECKING:
    from pygments.lexer import Lexer

MOST_CHARACTERS: Final = 100_000
"""Longer code is shown without colours: to find them takes a second for each megabyte."""
_NAME: Final = re.compile(r"[\w+#.-]{1,40}")

_STYLES: Final = {
    "Comment": "comment",
    "Keyword": "keyword",
    "Literal.String": "string",
    "Literal.Number": "number",
    "Name.Builtin": "builtin",
    "Name.Function": "function",
    "Name.Class": "class",
    "Name.Decorator": "decorator",
    "Name.Tag": "keyword",
    "Name.Attribute": "builtin",
    "Operator.Word": "keyword",
    "Generic.Inserted": "inserted",
    "Generic.Deleted": "deleted",
    "Generic.Heading": "strong",
    "Generic.Subheading": "keyword",
}


def highlight(text: str, language: str) -> list[list[Span]]:
    """The lines of ``text``, each as spans."""
    lexer = _lexer(language) if len(text) <= MOST_CHARACTERS else None
    if lexer is None:
        return [[Span(line)] if line else [] for line in text.split("\n")]
    lines: list[list[Span]] = [[]]
    for kind, part in lexer.get_tokens(text):
        style = _style(kind)
        first, *others = part.split("\n")
        if first:
            lines[-1].append(Span(first, style))
        lines += [[Span(other, style)] if other else [] for other in others]
    return lines[: text.count("\n") + 1]


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    match = _NAME.match(language)
    if match is None:
        return None
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(match.group().lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=512)
def _style(kind: Any) -> str:
    """The style of the nearest kind above that has one."""
    name = ".".join(kind)
    while name:
        if name in _STYLES:
            return _STYLES[name]
        name = name.rpartition(".")[0]
    return ""
