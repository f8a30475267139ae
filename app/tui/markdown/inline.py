"""What stands within a paragraph: emphasis, code, links. From markdown-it's tokens to spans."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from app.tui.markdown.lines import Span

if TYPE_CHECKING:
    from markdown_it.token import Token

_STYLES: Final = {"em": "em", "strong": "strong", "s": "strike", "link": "link"}
_SPACE: Final = re.compile(r"[ \t]+")


def spans_of(tokens: Sequence[Token] | None, remarks: Mapping[str, str] | None = None) -> list[Span]:
    """The text with its styles. A link says where it leads, for no terminal is told to open it.

    ``remarks`` say of pictures, by their sources, why they are not shown.
    """
    spans: list[Span] = []
    styles: list[str] = []
    leads: list[tuple[str, int]] = []
    for token in tokens or ():
        kind = token.type
        if kind == "text":
            _add(spans, _SPACE.sub(" ", token.content), styles)
        elif kind == "code_inline":
            _add(spans, token.content, [*styles, "code"])
        elif kind == "softbreak":
            _add(spans, " ", styles)
        elif kind == "hardbreak":
            spans.append(Span("\n"))
        elif kind == "image":
            _add(spans, f"[image: {token.content}]" if token.content else "[image]", [*styles, "link"])
            source = source_of(token)
            remark = remarks.get(source) if remarks else None
            spans.append(Span(f" ({source}: {remark})" if remark else f" ({source})", "url"))
        elif kind.endswith("_open"):
            styles.append(_STYLES.get(kind.removesuffix("_open"), ""))
            if kind == "link_open":
                leads.append((str(token.attrs.get("href", "")), len(spans)))
        elif kind.endswith("_close"):
            if styles:
                styles.pop()
            if kind == "link_close" and leads:
                href, start = leads.pop()
                said = "".join(span.text for span in spans[start:])
                if href and href.removeprefix("mailto:") != said:
                    spans.append(Span(f" ({href})", "url"))
        elif token.content:
            _add(spans, token.content, styles)
    return spans


def source_of(image: Token) -> str:
    """Where a picture is, as it is written."""
    return str(image.attrs.get("src", ""))


def _add(spans: list[Span], text: str, styles: Sequence[str]) -> None:
    if text:
        spans.append(Span(text, " ".join(filter(None, dict.fromkeys(styles)))))
