"""Blocks as lines: markdown-it's tokens of one block, drawn at a width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from app.tui.markdown.code import highlight
from app.tui.markdown.inline import source_of, spans_of
from app.tui.markdown.lines import BLANK, Code, Line, Margin, Span, fold, wrap
from app.tui.markdown.picture import MOST_PICTURES, Look, Picture, draw_picture
from app.tui.markdown.table import draw_table

if TYPE_CHECKING:
    from markdown_it.token import Token

TOO_MANY: Final = f"a message shows its first {MOST_PICTURES}"
BULLETS: Final = ("•", "◦", "▪")


class Drawing:
    """Draws the tokens of one block. ``add_code`` gets every code block and gives its number.

    ``look`` finds pictures; as many as ``most_pictures`` are drawn.
    """

    def __init__(
        self,
        width: int,
        add_code: Callable[[Code], int],
        look: Look | None = None,
        most_pictures: int = 0,
    ) -> None:
        self.lines: list[Line] = []
        self._width = width
        self._add_code = add_code
        self._look = look
        self._pictures_left = most_pictures

    def draw(self, tokens: Sequence[Token], margin: Margin = Margin(), depth: int = 0) -> None:  # noqa: B008
        """``tokens`` are blocks, one behind the other."""
        first = True
        at = 0
        while at < len(tokens):
            end = _end(tokens, at)
            before = len(self.lines)
            if not first and not _tight(tokens, at):
                self.lines.append(_blank(margin))
            self._block(tokens[at : end + 1], margin if first else margin.continued, depth)
            first = first and len(self.lines) == before
            at = end + 1

    def _block(self, tokens: Sequence[Token], margin: Margin, depth: int) -> None:
        token = tokens[0]
        inner = tokens[1:-1]
        match token.type:
            case "paragraph_open":
                self._paragraph(inner[0].children or (), margin)
            case "heading_open":
                level = int(token.tag[1:])
                style = f"h{min(level, 3)}"
                said = [Span(text, f"{style} {own}".strip()) for text, own in spans_of(inner[0].children)]
                self.lines += wrap(said, self._width, margin)
            case "fence" | "code_block":
                self.code(Code(token.info.strip(), token.content.removesuffix("\n")), margin)
            case "blockquote_open":
                bar = Margin((Span("▎ ", "quote-bar"),), (Span("▎ ", "quote-bar"),))
                self.draw(inner, bar.within(margin), depth)
            case "bullet_list_open" | "ordered_list_open":
                self._list(token, inner, margin, depth)
            case "table_open":
                self._table(inner, margin)
            case "hr":
                self.lines.append(
                    Line((*margin.first, Span("─" * max(3, min(40, self._width - margin.width)), "rule")))
                )
            case _:
                if token.content:
                    self.lines += wrap([Span(token.content)], self._width, margin)

    def _paragraph(self, said: Sequence[Token], margin: Margin) -> None:
        """The text, and below it the pictures that it names."""
        names = [source_of(token) for token in said if token.type == "image"] if self._look else []
        found: dict[str, Picture | str] = {}
        for name in names:
            self._pictures_left -= 1
            found[name] = self._look(name) if self._look and self._pictures_left >= 0 else TOO_MANY
        remarks = {name: seen for name, seen in found.items() if isinstance(seen, str)}
        self.lines += wrap(spans_of(said, remarks), self._width, margin)
        for name in names:
            if isinstance(picture := found[name], Picture):
                self.lines += draw_picture(picture, self._width, margin)

    def _list(self, token: Token, inner: Sequence[Token], margin: Margin, depth: int) -> None:
        number = int(token.attrs.get("start", 1)) if token.type.startswith("ordered") else None
        at = 0
        while at < len(inner):
            end = _end(inner, at)
            if number is None:
                sign = f"{BULLETS[depth % len(BULLETS)]} "
            else:
                sign, number = f"{number}. ", number + 1
            own = Margin((Span(sign, "bullet"),), (Span(" " * len(sign)),)).within(margin)
            before = len(self.lines)
            self.draw(inner[at + 1 : end], own, depth + 1)
            if len(self.lines) == before:  # an item without text
                self.lines.append(Line(own.first, margin=sum(len(span.text) for span in own.first)))
            margin = margin.continued
            at = end + 1

    def _table(self, tokens: Sequence[Token], margin: Margin) -> None:
        rows: list[list[list[Span]]] = []
        right: list[bool] = []
        for index, token in enumerate(tokens):
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                if token.type == "th_open":
                    right.append("right" in str(token.attrs.get("style", "")))
                rows[-1].append(spans_of(tokens[index + 1].children))
        if rows and rows[0]:
            self.lines += draw_table(rows, right, self._width, margin)

    def code(self, code: Code, margin: Margin) -> None:
        """A code block, behind a bar, with its language above it."""
        self.lines += draw_code(
            highlight(code.text, code.language), code.language, self._add_code(code), self._width, margin
        )


def draw_code(
    rows: Sequence[Sequence[Span]],
    language: str,
    number: int,
    width: int,
    margin: Margin,
    *,
    head: bool = True,
) -> list[Line]:
    """Rows of code. ``head`` puts a line above them that says the language."""
    lines: list[Line] = []
    if head:
        name = language.split()[0] if language.split() else "code"
        title = (*margin.first, Span(f"╭ {name[:40]} ", "code-bar"), Span("copy", "action"))
        lines.append(Line(title, code=number, margin=sum(len(span.text) for span in title)))
    bar = (Span("│ ", "code-bar"),)
    beside = Margin(bar, bar).within(margin.continued)
    for row in rows:
        own = [Span(text, f"fence {style}".strip()) for text, style in row]
        lines += fold(own, width, beside, code=number)
    return lines


def _end(tokens: Sequence[Token], at: int) -> int:
    """The index of the token that closes the block which begins at ``at``."""
    depth = 0
    for index in range(at, len(tokens)):
        depth += tokens[index].nesting
        if depth == 0:
            return index
    return len(tokens) - 1


def _tight(tokens: Sequence[Token], at: int) -> bool:
    """Whether no blank line goes before this block: nested lists, and paragraphs that are hidden."""
    return tokens[at].type in ("bullet_list_open", "ordered_list_open") and tokens[at].level > 0


def _blank(margin: Margin) -> Line:
    """A blank line that quote bars go through."""
    if not any(span.text.strip() for span in margin.rest):
        return BLANK
    return Line(margin.rest, margin=sum(len(span.text) for span in margin.rest))
