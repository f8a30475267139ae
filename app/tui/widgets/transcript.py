"""A chat as one scrolling column. Only the lines in view are rendered, however long the chat is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from app.tui.entry import Entry
from app.tui.markdown import Code, Line, Look
from app.tui.widgets.pixels import picture_segments
from app.tui.widgets.selecting import highlighted, text_between
from app.tui.widgets.styles import TRANSCRIPT_CSS, component_classes, component_style

GUTTER: Final = 2
MEASURE_SECONDS: Final = 0.005
"""Of each twentieth of a second, to replace estimated heights by exact ones."""
KEPT_LINES: Final = 50
"""Entries around the view whose lines stay drawn."""


class Transcript(ScrollView, can_focus=True):
    """Entries one below the other. It follows its end while text comes, until somebody scrolls up."""

    ALLOW_SELECT = True
    COMPONENT_CLASSES: ClassVar[set[str]] = component_classes()
    BINDING_GROUP_TITLE = "Messages"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Message above", show=False),
        Binding("down,j", "move(1)", "Message below", show=False),
        Binding("home,g", "to(0)", "First message", show=False),
        Binding("end,G", "to(-1)", "Last message", show=False),
        Binding("pageup,b", "page_up", "Page up", show=False),
        Binding("pagedown,space", "page_down", "Page down", show=False),
        Binding("e", "screen.edit_message", "Edit"),
        Binding("r", "screen.again_message", "Again"),
        Binding("c", "screen.copy_message", "Copy"),
        Binding("y", "screen.copy_message_code", "Code"),
        Binding("q", "screen.quote_message", "Quote"),
        Binding("left,h", "screen.branch(-1)", "Branch", key_display="← →"),
        Binding("right,l", "screen.branch(1)", "Branch after", show=False),
        Binding("enter,t", "fold", "Unfold", key_display="t"),
        Binding("x", "screen.delete_message", "Delete"),
        Binding("i,escape", "screen.write", "Write", key_display="i"),
    ]
    DEFAULT_CSS = TRANSCRIPT_CSS

    cursor: var[int | None] = var(None)
    """The entry that keys act on; None while the person types below."""

    @dataclass
    class CodeClicked(Message):
        """A code block's ``copy`` was clicked."""

        code: Code

    @dataclass
    class BranchClicked(Message):
        """The branches of an entry were clicked, left or right of their number."""

        entry: Entry
        step: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.entries: list[Entry] = []
        self.look: Look | None = None  # finds the pictures that messages name
        self._tops: list[int] = []
        self._follow = True
        self._strips: LRUCache[tuple[int, int, bool], Strip] = LRUCache(512)
        self._styles: dict[str, Style] = {}
        self._moving = False
        self._sought: tuple[int, int] | None = None
        """The place to be at, until somebody scrolls: how tall all is may not be known yet."""

    # -- what is shown --------------------------------------------------------------------------------------

    def show(self, entries: Iterable[Entry], place: tuple[int, int] | None = None) -> None:
        """These entries, in the place of the ones before; from their end, or from :attr:`place` on."""
        self.entries = list(entries)
        for entry in self.entries:
            entry.content.look = self.look
        self.cursor = None
        self._follow, self._sought = place is None, place
        self._lay_out(0)
        self.refresh()

    def add(self, entry: Entry) -> None:
        """One more at the end."""
        self.entries.append(entry)
        entry.content.look = self.look
        self._lay_out(len(self.entries) - 1)
        self.refresh()

    def grown(self, entry: Entry) -> None:
        """``entry`` has more text, or another state."""
        index, height = self._index(entry), entry.height
        entry.changed()
        first = entry.first_change(self.text_width) if index == len(self.entries) - 1 else 0
        self._lay_out(index, first)
        if entry.height == height and first:  # only lines at the end are other than they were
            y = self._tops[index] + first - int(self.scroll_y)
            self.refresh(Region(0, max(0, y), self.size.width, height - first))
        else:
            self.refresh()

    def look_with(self, look: Look | None) -> None:
        """Draw all pictures again, as ``look`` finds them; without it they are named only."""
        self.look = look
        for entry in self.entries:
            entry.content.look = look
        self.forget_picture()

    def forget_picture(self, name: str | None = None) -> None:
        """Draw this picture again, or all of them, for :attr:`look` finds others now."""
        for index, entry in enumerate(self.entries):
            if entry.forget_picture(name):
                self._drop_strips(index)
                self._measure(index)
        if self._sought is not None:
            self._seek(self._sought)
        self.refresh()

    def follow(self) -> None:
        """Go to the end, and stay there while text comes."""
        self._follow = True
        self.scroll_end(animate=False, immediate=True, x_axis=False)

    def reveal(self, index: int) -> None:
        """Scrolls so that the entry is in view, its first line if it is long."""
        self._measure(index)
        top, height = self._tops[index], self.entries[index].height
        view = self.scrollable_content_region.height
        if top < self.scroll_y or height >= view:
            self._scroll_to_line(top)
        elif top + height > self.scroll_y + view:
            self._scroll_to_line(top + height - view)

    @property
    def place(self) -> tuple[int, int] | None:
        """The message at the top of the view and which of its lines; None at the end, where text comes."""
        if self._follow or not self.entries:
            return None
        index, row = self._at(int(self.scroll_y))
        return self.entries[index].message_id, row

    def _seek(self, place: tuple[int, int]) -> None:
        """The inverse of :attr:`place`; for a message that is not here the view is at the end."""
        for index, entry in enumerate(self.entries):
            if entry.message_id == place[0]:
                self._measure(index)
                self._scroll_to_line(self._tops[index] + place[1])
                return
        self._sought, self._follow = None, True

    @property
    def current(self) -> Entry | None:
        """The entry under the cursor."""
        return None if self.cursor is None or self.cursor >= len(self.entries) else self.entries[self.cursor]

    # -- layout ---------------------------------------------------------------------------------------------

    @property
    def text_width(self) -> int:
        """Cells that the text of an entry may take."""
        return max(10, self.scrollable_content_region.width - GUTTER - 1)

    def _lay_out(self, start: int, row: int = 0) -> None:
        """Heights and tops from entry ``start`` on; heights that are not known are estimated.

        Lines before ``row`` of that entry are as they were.
        """
        width = self.text_width
        del self._tops[start:]
        top = self._tops[-1] + self.entries[start - 1].height if start else 0
        last = len(self.entries) - 1
        for index in range(start, len(self.entries)):
            entry = self.entries[index]
            if not entry.exact:
                entry.height = len(entry.lines(width)) if index == last else entry.estimate(width)
                entry.exact = index == last
            self._tops.append(top)
            top += entry.height
        self._drop_strips(start, row)
        self.virtual_size = Size(self.scrollable_content_region.width, top)
        if self._follow:
            self.scroll_end(animate=False, immediate=True, x_axis=False)
        elif self._sought is not None:
            self._seek(self._sought)

    def _measure(self, index: int) -> None:
        """Makes the height of an entry exact; what is in view stays where it is."""
        entry = self.entries[index]
        if entry.exact:
            return
        before = entry.height
        entry.height, entry.exact = len(entry.lines(self.text_width)), True
        if (moved := entry.height - before) == 0:
            return
        self._drop_strips(index + 1)
        for below in range(index + 1, len(self._tops)):
            self._tops[below] += moved
        self.virtual_size = Size(self.virtual_size.width, self.virtual_size.height + moved)
        if self._follow:
            self.scroll_end(animate=False, immediate=True, x_axis=False)
        elif self._tops[index] + before <= self.scroll_y:
            self._scroll_to_line(int(self.scroll_y) + moved)

    def _measure_some(self) -> None:
        """Exact heights for entries near the view, then for others, for a few milliseconds."""
        inexact = [index for index, entry in enumerate(self.entries) if not entry.exact]
        if not inexact:
            return
        middle = self._at(int(self.scroll_y))[0]
        deadline = perf_counter() + MEASURE_SECONDS
        for index in sorted(inexact, key=lambda index: abs(index - middle)):
            self._measure(index)
            if abs(index - middle) > KEPT_LINES:
                self.entries[index].forget_lines()
            if perf_counter() > deadline:
                break
        if self._sought is not None:
            self._seek(self._sought)
        self.refresh()

    def _drop_strips(self, start: int, row: int = 0) -> None:
        """Forgets the drawn lines from this one on."""
        if (start, row) <= (0, 0):
            self._strips.clear()
            return
        for key in [key for key in self._strips.keys() if key[:2] >= (start, row)]:  # noqa: SIM118 - an LRUCache does not iterate
            self._strips.discard(key)

    def _index(self, entry: Entry) -> int:
        return next(at for at in range(len(self.entries) - 1, -1, -1) if self.entries[at] is entry)

    def _at(self, y: int) -> tuple[int, int]:
        """The entry that has line ``y``, and which of its lines that is."""
        index = max(0, bisect_right(self._tops, y) - 1)
        return index, y - (self._tops[index] if self._tops else 0)

    def _scroll_to_line(self, y: int) -> None:
        self._moving = True
        self.scroll_to(y=y, animate=False, immediate=True)
        self._moving = False

    # -- events ---------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.set_interval(1 / 20, self._measure_some)

    def on_resize(self, event: events.Resize) -> None:
        for entry in self.entries:
            entry.exact = False
        self._lay_out(0)
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles.clear()
        self._strips.clear()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._moving:
            self._sought = None
            self._follow = new_value >= self.max_scroll_y

    def watch_cursor(self, old: int | None, new: int | None) -> None:
        self._strips.clear()
        if new is not None and new < len(self.entries):
            self._follow = False
            self.reveal(new)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or not self.entries:
            return
        index, row = self._at(int(self.scroll_y) + offset.y)
        entry = self.entries[index]
        lines = entry.lines(self.text_width)
        if row >= len(lines):
            return
        line, x = lines[row], offset.x - GUTTER
        if entry.folds_at(row):
            self._fold(entry)
        elif line.code is not None and line.span_at(x).style == "action":
            self.post_message(self.CodeClicked(entry.content.codes[line.code]))
        elif row == 0 and (span := line.span_at(x)).style == "branch":
            left = x < line.width - len(span.text) // 2
            self.post_message(self.BranchClicked(entry, -1 if left else 1))
        else:
            self.cursor = index

    def action_move(self, step: int) -> None:
        """The cursor to another entry."""
        if self.entries:
            at = len(self.entries) - 1 if self.cursor is None else self.cursor + step
            self.cursor = min(max(at, 0), len(self.entries) - 1)

    def action_to(self, at: int) -> None:
        """The cursor to entry ``at``; -1 is the last."""
        if self.entries:
            self.cursor = at % len(self.entries)

    def action_fold(self) -> None:
        """Show thoughts and tool calls of the entry under the cursor, or fold them."""
        entry = self.current
        if entry is not None and entry.folded:
            self._fold(entry)

    def _fold(self, entry: Entry) -> None:
        entry.open_thoughts = not entry.open_thoughts
        index = self._index(entry)
        entry.changed()
        follow, self._follow = self._follow, False
        entry.height, entry.exact = len(entry.lines(self.text_width)), True
        self._lay_out(index)
        self.refresh()
        self._follow = follow and self.scroll_y >= self.max_scroll_y

    # -- rendering ------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        line_number = int(self.scroll_y) + y
        width = self.scrollable_content_region.width
        if not self.entries or line_number >= self.virtual_size.height:
            return Strip.blank(width, self._base)
        index, row = self._at(line_number)
        selection = self.text_selection
        key = (index, row, self.cursor == index)
        strip = self._strips.get(key) if selection is None else None
        if strip is None:
            strip = self._strip(index, row, line_number, width, selection).apply_offsets(0, line_number)
            if selection is None:
                self._strips[key] = strip
        return strip

    def _strip(
        self, index: int, row: int, line_number: int, width: int, selection: Selection | None
    ) -> Strip:
        entry = self.entries[index]
        lines = entry.lines(self.text_width)
        line = lines[row] if row < len(lines) else Line()
        base = self._base
        chosen = self.cursor == index
        if chosen:
            base += self._style("cursor")
        blank = row == len(lines) - 1
        gutter = "gutter-cursor" if chosen else "gutter-you" if entry.role == "user" else "gutter-model"
        over = self._base if blank else base
        segments = [Segment(" " * GUTTER if blank else "▌ ", over + self._style(gutter))]
        segments += [Segment(text, base + self._style(style)) for text, style in line.spans]
        if line.colours is not None:
            segments[-1:] = picture_segments(line.colours, over)
        if selection is not None and (span := selection.get_span(line_number)) is not None:
            style = self.screen.get_component_rich_style("screen--selection")
            segments = highlighted(segments, span, style)
        return Strip(segments).adjust_cell_length(width, over)

    @property
    def _base(self) -> Style:
        """The widget's own style."""
        if "" not in self._styles:
            self._styles[""] = self.rich_style
        return self._styles[""]

    def _style(self, names: str) -> Style:
        """The partial style of names with spaces between; unknown ones have none."""
        if not names:
            return Style.null()
        if names not in self._styles:
            found = Style()
            for name in names.split():
                found += component_style(self, f"md--{name}", background=name == "cursor")
            self._styles[names] = found
        return self._styles[names]

    # -- selecting with the mouse ---------------------------------------------------------------------------

    def selection_updated(self, selection: Selection | None) -> None:
        self._strips.clear()
        self.refresh()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The text as it was written: without margins, lines that were broken joined again."""

        def line_at(y: int) -> Line | None:
            index, row = self._at(y)
            lines = self.entries[index].lines(self.text_width) if self.entries else []
            return lines[row] if row < len(lines) else None

        return text_between(selection, self.virtual_size.height, line_at, GUTTER), "\n"
