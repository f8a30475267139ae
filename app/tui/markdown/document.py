"""A text that grows, as blocks: those that are finished, and the one that is still being written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

from app.tui.markdown.code import highlight
from app.tui.markdown.draw import Drawing, draw_code
from app.tui.markdown.inline import source_of
from app.tui.markdown.lines import BLANK, Code, Line, Margin, Span, wrap
from app.tui.markdown.picture import MOST_PICTURES, Look

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

MOST_PARAGRAPH: Final = 8192
"""A longer paragraph is shown as it is written: some texts of this length take markdown-it a second."""
MOST_BRACKETS: Final = 64
MOST_COLUMNS: Final = 64
MOST_TABLE: Final = 65_536
_NESTED: Final = re.compile(r"^[\s>*+\-\d.)]{64}", re.MULTILINE)
_FENCE: Final = re.compile(r"^ {0,3}(`{3,}|~{3,})([^\n]*)(?:\n|$)")


@dataclass
class _Block:
    """A finished block: its tokens, or the source where it is shown plain."""

    source: str
    tokens: Sequence[Token] | None
    item: str = ""
    """The kind of list that it is an item of: no blank line goes between two of a kind."""
    codes: list[int] = field(default_factory=list)
    pictures: tuple[str, ...] = ()
    """What it names."""
    pictures_before: int = 0
    """How many the blocks above it name."""
    drawn: tuple[int, list[Line]] | None = None
    """Width, and the lines at that."""


@dataclass
class _Fence:
    """A code block at the top that is still open."""

    mark: str
    language: str
    number: int
    rows: list[list[Span]] = field(default_factory=list)
    """Coloured, but for the last line, which may still grow."""
    source: list[str] = field(default_factory=list)
    drawn: tuple[int, int, list[Line]] | None = None
    """Width, how many rows, and their lines."""


class Document:
    """Markdown that is appended to; :meth:`lines` draws it.

    What :meth:`append` and :meth:`lines` cost follows from the last block, not from the whole text.
    ``look`` finds the pictures that the text names; without it they are named only.
    """

    def __init__(self, text: str = "") -> None:
        self.codes: list[Code] = []
        """The code blocks, in their order; of an open one what has come."""
        self.look: Look | None = None
        self._blocks: list[_Block] = []
        self._tail = ""
        self._tail_blocks: list[_Block] | None = None
        self._tail_codes = 0
        self._pictures = 0
        """How many the finished blocks name."""
        self._fence: _Fence | None = None
        self._width = 0
        self._settled: list[Line] = []
        self._drawn_blocks = 0
        if text:
            self.append(text)

    def append(self, text: str) -> None:
        """More text, cut anywhere."""
        # What is too much to parse at once is taken line by line, as while it is written.
        much = text.count("[") > MOST_BRACKETS
        for piece in text.splitlines(keepends=True) if much else (text,):
            self._tail += piece
            self._tail_blocks = None
            while self._advance():
                pass

    def lines(self, width: int) -> list[Line]:
        """All lines at this width. The list is the caller's."""
        if width != self._width:
            self._width, self._settled, self._drawn_blocks = width, [], 0
        above = self._blocks[self._drawn_blocks - 1].item if self._drawn_blocks else ""
        for block in self._blocks[self._drawn_blocks :]:
            _join(self._settled, self._draw(block), bool(above) and block.item == above)
            above = block.item
        self._drawn_blocks = len(self._blocks)
        lines = list(self._settled)
        if self._fence is not None:
            _join(lines, self._draw_fence(self._fence), False)
            return lines
        for block in self._tail_parsed():
            _join(lines, self._draw(block), bool(above) and block.item == above)
            above = block.item
        return lines

    def forget_picture(self, name: str | None) -> bool:
        """Draw this one again, or all of them, for they are others now; whether there is any."""
        blocks = [*self._blocks, *(self._tail_blocks or ())]
        old = [block for block in blocks if (block.pictures if name is None else name in block.pictures)]
        for block in old:
            block.drawn = None
        if old:
            self._settled, self._drawn_blocks = [], 0
        return bool(old)

    # -- finished blocks ------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """Takes from the tail what is finished; whether there may be more."""
        if self._fence is not None:
            return self._continue_fence(self._fence)
        if (match := _FENCE.match(self._tail)) and match.group().endswith("\n"):
            if match[1][0] == "`" and "`" in match[2]:
                return self._settle()
            self._forget_tail_codes()
            language = match[2].strip()
            self._fence = _Fence(match[1], language, self._add_code(Code(language, "")))
            self._tail = self._tail[match.end() :]
            return True
        return self._settle()

    def _settle(self) -> bool:
        """Moves all blocks but the last from the tail to the finished ones."""
        if len(self._tail) > MOST_PARAGRAPH and "\n\n" not in self._tail[:MOST_PARAGRAPH]:
            cut = _cut(self._tail)
            self._forget_tail_codes()
            self._blocks.append(_Block(self._tail[:cut], None))
            self._tail = self._tail[cut:]
            return bool(self._tail)
        if "\n" not in self._tail:
            return False
        blocks = self._tail_parsed()
        if len(blocks) < 2:
            return False
        kept = blocks[-1]
        self._blocks += blocks[:-1]
        for number in kept.codes:  # the last one is parsed again with what comes behind it
            del self.codes[number:]
            break
        self._pictures = kept.pictures_before
        self._tail = kept.source
        self._tail_blocks = None
        self._tail_codes = 0
        return bool(_FENCE.match(self._tail))

    def _tail_parsed(self) -> list[_Block]:
        if self._tail_blocks is None:
            self._forget_tail_codes()
            before = len(self.codes)
            self._tail_blocks = [self._numbered(block) for block in parse(self._tail)]
            _count_pictures(self._tail_blocks, self._pictures)
            self._tail_codes = len(self.codes) - before
        return self._tail_blocks

    def _numbered(self, block: _Block) -> _Block:
        for token in block.tokens or ():
            if token.type in ("fence", "code_block"):
                code = Code(token.info.strip(), token.content.removesuffix("\n"))
                block.codes.append(self._add_code(code))
        return block

    def _forget_tail_codes(self) -> None:
        if self._tail_codes:
            del self.codes[-self._tail_codes :]
            self._tail_codes = 0
        self._tail_blocks = None

    def _add_code(self, code: Code) -> int:
        self.codes.append(code)
        return len(self.codes) - 1

    def _draw(self, block: _Block) -> list[Line]:
        if block.drawn is None or block.drawn[0] != self._width:
            numbers = iter(block.codes)
            most = max(0, MOST_PICTURES - block.pictures_before)
            drawing = Drawing(self._width, lambda code: next(numbers), self.look, most)
            if block.tokens is None:
                drawing.lines += wrap([Span(block.source.strip("\n"))], self._width, Margin())
            else:
                drawing.draw(block.tokens)
            block.drawn = (self._width, drawing.lines)
        return block.drawn[1]

    # -- an open code block ---------------------------------------------------------------------------------

    def _continue_fence(self, fence: _Fence) -> bool:
        """Takes whole lines into the open code block; True if its end has come."""
        *whole, rest = self._tail.split("\n")
        for number, line in enumerate(whole):
            if _closes(line, fence.mark):
                self._take_rows(fence, whole[:number])
                self._close_fence(fence)
                self._tail = "\n".join([*whole[number + 1 :], rest])
                return bool(self._tail)
        self._take_rows(fence, whole)
        self._tail = rest
        return False

    def _take_rows(self, fence: _Fence, lines: list[str]) -> None:
        if lines:
            fence.source += lines
            fence.rows += highlight("\n".join(lines), fence.language)

    def _close_fence(self, fence: _Fence) -> None:
        """The code is coloured again as a whole: a string over several lines is seen only so."""
        text = "\n".join(fence.source)
        self.codes[fence.number] = Code(fence.language, text)
        self._blocks.append(_Block(text, _fence_tokens(fence, text), codes=[fence.number]))
        self._fence = None

    def _draw_fence(self, fence: _Fence) -> list[Line]:
        if fence.drawn is None or fence.drawn[0] != self._width:
            head = draw_code([], fence.language, fence.number, self._width, Margin())
            fence.drawn = (self._width, 0, head)
        _, rows, lines = fence.drawn
        lines += draw_code(fence.rows[rows:], fence.language, fence.number, self._width, Margin(), head=False)
        fence.drawn = (self._width, len(fence.rows), lines)
        tail = "" if _closes(self._tail, fence.mark) else self._tail  # a text may end with the mark
        self.codes[fence.number] = Code(fence.language, "\n".join([*fence.source, tail]).removesuffix("\n"))
        if not tail:
            return lines
        last = [Span(tail)]
        return lines + draw_code([last], fence.language, fence.number, self._width, Margin(), head=False)


def parse(source: str) -> list[_Block]:
    """The blocks at the top of a text; each item of a list there is one of its own."""
    if not source.strip():
        return []
    if _too_much(source):
        return [_Block(source, None)]
    lines = source.split("\n")
    tokens = _markdown().parse(source)
    blocks: list[_Block] = []
    starts: list[int] = []
    at = 0
    while at < len(tokens):
        end = at
        depth = 0
        while True:
            depth += tokens[end].nesting
            if depth == 0:
                break
            end += 1
        group = tokens[at : end + 1]
        if group[0].type in ("bullet_list_open", "ordered_list_open"):
            for item in _items(group):
                blocks.append(_Block("", item, item=group[0].type))
                starts.append(_start(item[1]))
        else:
            blocks.append(_Block("", group))
            starts.append(_start(group[0]))
        at = end + 1
    for index, block in enumerate(blocks):
        stop = starts[index + 1] if index + 1 < len(blocks) else len(lines)
        block.source = "\n".join(lines[starts[index] : stop])
    return blocks


def _count_pictures(blocks: Sequence[_Block], before: int) -> None:
    for block in blocks:
        block.pictures_before = before
        inline = [child for token in block.tokens or () for child in token.children or ()]
        block.pictures = tuple(source_of(child) for child in inline if child.type == "image")
        before += len(block.pictures)


def _items(group: Sequence[Token]) -> list[list[Token]]:
    """A list's items, each as a list of one, numbered as they were."""
    opening, closing = group[0], group[-1]
    number = int(opening.attrs.get("start", 1))
    items: list[list[Token]] = []
    depth = 0
    for token in group[1:-1]:
        if depth == 0:
            head = opening.copy()
            if opening.type.startswith("ordered"):
                head.attrs = {**opening.attrs, "start": number + len(items)}
            items.append([head])
        items[-1].append(token)
        depth += token.nesting
    return [[*item, closing] for item in items]


def _start(token: Token) -> int:
    return token.map[0] if token.map else 0


def _too_much(source: str) -> bool:
    """Whether this is rather shown as it is written than parsed."""
    if len(source) <= 512 and source.count("[") <= MOST_BRACKETS:
        return _NESTED.search(source) is not None
    longest = max(map(len, source.split("\n\n")))
    table = source.count("|") > MOST_COLUMNS
    return (
        (longest > MOST_PARAGRAPH and not (table and len(source) <= MOST_TABLE))
        or source.count("[") > MOST_BRACKETS
        or (table and source.partition("\n")[0].count("|") > MOST_COLUMNS)
        or _NESTED.search(source) is not None
    )


def _cut(text: str) -> int:
    """Where a long text is cut: behind a line, or a word, or anywhere."""
    for sign in ("\n", " "):
        if (at := text.rfind(sign, 0, MOST_PARAGRAPH)) > MOST_PARAGRAPH // 2:
            return at + 1
    return MOST_PARAGRAPH


def _closes(line: str, mark: str) -> bool:
    stripped = line.strip()
    return (
        len(line) - len(line.lstrip(" ")) <= 3
        and len(stripped) >= len(mark)
        and stripped == mark[0] * len(stripped)
    )


def _join(lines: list[Line], more: list[Line], close: bool) -> None:
    """``more`` behind ``lines``, with a blank line between unless they belong close together."""
    if lines and more and not close:
        lines.append(BLANK)
    lines += more


def _fence_tokens(fence: _Fence, text: str) -> list[Token]:
    from markdown_it.token import Token

    return [Token("fence", "code", 0, info=fence.language, content=f"{text}\n")]


@cache
def _markdown() -> MarkdownIt:
    """Without HTML, which is shown as text, and without references, which could be far away."""
    from markdown_it import MarkdownIt

    rules = MarkdownIt("commonmark", {"html": False, "maxNesting": 80})
    return rules.enable(["table", "strikethrough"]).disable(["html_block", "html_inline", "reference"])
