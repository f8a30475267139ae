"""The one place where a command prints: a person's text, one JSON document, or only the bare data.

Data goes to stdout, everything else to stderr. All text is taken as untrusted: it passes ``app.terminal``
here, and only then does this module add its own colours and carriage returns around it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from app.cli.text import align, columns_of, shorten, wrap

if TYPE_CHECKING:
    from app.cli.bars import Bars

NO_LIMIT = 1 << 30
LEAST_COLUMNS = 20
"""What a value is given beside its name, however narrow the terminal is."""

_STYLES = {"bold": "1", "dim": "2", "red": "31;1", "yellow": "33", "green": "32"}


class Styled(str):
    """Text with one of the styles bold, dim, red, yellow, green; plain where colour is off."""

    __slots__ = ("style",)
    style: str

    def __new__(cls, text: str, style: str) -> Styled:
        self = super().__new__(cls, text)
        self.style = style
        return self


@dataclass(frozen=True)
class Table:
    """Rows below a header; columns in ``right`` are flush right. Every row has a cell for each column."""

    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    right: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Fields:
    """Names and their values, one a line; a value of several lines goes on below its name."""

    pairs: Sequence[tuple[str, str]]


Block = str | Table | Fields


class Output:
    """Where a command's words go. ``json`` and ``quiet`` may be switched on while options are parsed."""

    def __init__(self, *, json: bool = False, quiet: bool = False, color: str = "auto") -> None:
        self.json = json
        self.quiet = quiet
        self.color = color
        self._progress: Progress | Bars | None = None

    @property
    def human(self) -> bool:
        """A person reads along: notes, progress and statistics make sense."""
        return not self.json and not self.quiet

    def result(self, document: Any, *blocks: Block, quiet: Sequence[str] = ()) -> None:
        """Print what a command is run for: ``document`` as JSON, or ``blocks``, or the lines of ``quiet``."""
        if self.json:
            self.event(document)
        elif self.quiet:
            self._print(sys.stdout, [self._safe_line(line) for line in quiet])
        else:
            self._print(sys.stdout, self._render(blocks, sys.stdout))

    def event(self, document: Any) -> None:
        """One JSON document on one line of stdout."""
        from app.terminal import json_line

        _write(sys.stdout, json_line(document))

    def text(self, text: str) -> None:
        """Data that is text of its own, such as a template; ends with a line break."""
        from app.terminal import sanitize

        _write(sys.stdout, sanitize(text if text.endswith("\n") else text + "\n"))

    @contextmanager
    def stream(self) -> Iterator[AnswerStream]:
        """Text that arrives in pieces and is shown at once."""
        stream = AnswerStream(sys.stdout)
        try:
            yield stream
        finally:
            stream.close()

    def note(self, *blocks: Block) -> None:
        """Say something beside the data; dropped with --json and --quiet."""
        if self.human:
            self.tell(*blocks)

    def tell(self, *blocks: Block) -> None:
        """Say on stderr what a person asked for, so with --quiet too."""
        self._print(sys.stderr, self._render(blocks, sys.stderr))

    def warn(self, message: str) -> None:
        """Say that something deserves a look; dropped with --quiet."""
        if self.quiet:
            return
        if self.json:
            from app.terminal import json_line

            _write(sys.stderr, json_line({"warning": message}))
        else:
            head = self._styled(Styled("warning:", "yellow"), sys.stderr)
            self._print(sys.stderr, [f"{head} {self._safe(message)}"])

    def error(self, message: str, next_command: str, document: Mapping[str, Any]) -> None:
        """Say what failed, and as the last line the command to run next."""
        if self.json:
            from app.terminal import json_line

            _write(sys.stderr, json_line({"error": dict(document)}))
            return
        head = self._styled(Styled("error:", "red"), sys.stderr)
        step = self._styled(Styled("next:", "bold"), sys.stderr)
        self._print(sys.stderr, [f"{head} {self._safe(message)}", f"{step} {self._safe_line(next_command)}"])

    def hear(self, event: object) -> None:
        """What a pull, a conversion or a quantization tells before it becomes words, for who draws it."""

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """One line on stderr that is drawn over and gone at the end; nothing where nobody looks at it.

        What is printed meanwhile stands above it.
        """
        shown = self.human and sys.stderr.isatty()
        columns = self._columns(sys.stderr)
        progress = Progress(self._safe_line(label), sys.stderr if shown else None, columns)
        outer, self._progress = self._progress, progress
        try:
            yield progress
        finally:
            progress.close()
            self._progress = outer

    @contextmanager
    def bars(self) -> Iterator[Bars]:
        """Several bars on stderr at once; like :meth:`progress` else."""
        from app.cli.bars import Bars

        shown = self.human and sys.stderr.isatty()
        bars = Bars(sys.stderr if shown else None, color=self._colored(sys.stderr))
        outer, self._progress = self._progress, bars
        try:
            yield bars
        finally:
            bars.close()
            self._progress = outer

    def _render(self, blocks: Sequence[Block], stream: TextIO) -> list[str]:
        lines: list[str] = []
        for block in blocks:
            if isinstance(block, Table):
                lines += self._table(block, stream)
            elif isinstance(block, Fields):
                lines += self._fields(block, stream)
            elif isinstance(block, Styled):
                lines.append(self._styled(block, stream))
            else:
                lines.append(self._safe(block))
        return lines

    def _table(self, table: Table, stream: TextIO) -> list[str]:
        rows = [[Styled(title, "bold") for title in table.header], *table.rows]
        colored = self._colored(stream)

        def paint(row: int, column: int, safe: str) -> str:
            cell = rows[row][column]
            return _paint(safe, cell.style) if colored and isinstance(cell, Styled) else safe

        return align(
            [[self._safe_line(cell) for cell in row] for row in rows], right=table.right, paint=paint
        )

    def _fields(self, fields: Fields, stream: TextIO) -> list[str]:
        width = max((len(name) for name, _ in fields.pairs), default=0)
        room = self._columns(stream) - width - 2
        lines = []
        for name, value in fields.pairs:
            head = self._styled(Styled(name, "bold"), stream) + " " * (width - len(name))
            whole = self._safe(value).splitlines() or [""]
            # A command stays on its line, so that it can be copied.
            shown_lines = [
                piece
                for line in whole
                for piece in ([line] if line.startswith("next: ") else wrap(line, max(room, LEAST_COLUMNS)))
            ]
            for index, line in enumerate(shown_lines):
                shown = (
                    _paint(line, value.style) if isinstance(value, Styled) and self._colored(stream) else line
                )
                lines.append(f"{head if index == 0 else ' ' * width}  {shown}".rstrip())
        return lines

    def _columns(self, stream: TextIO) -> int:
        """Columns of the terminal; where there is none, lines may be as long as they like."""
        if not stream.isatty():
            return NO_LIMIT
        import shutil

        return shutil.get_terminal_size().columns

    def _styled(self, text: Styled, stream: TextIO) -> str:
        safe = self._safe(text)
        return _paint(safe, text.style) if self._colored(stream) else safe

    def _colored(self, stream: TextIO) -> bool:
        if self.color != "auto":
            return self.color == "always"
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def _safe(self, text: str) -> str:
        from app.terminal import sanitize

        return sanitize(str(text))

    def _safe_line(self, text: str) -> str:
        """A cell stays on its line: a line break in a name must not draw a row of its own."""
        from app.terminal import sanitize

        return sanitize(str(text), newlines=False)

    def _print(self, stream: TextIO, lines: Sequence[str]) -> None:
        if lines:
            if self._progress is not None:
                self._progress.hide()
            _write(stream, "\n".join(lines) + "\n")


class AnswerStream:
    """Model text on its way to stdout: sanitised across pieces, flushed after each."""

    def __init__(self, stream: TextIO) -> None:
        from app.terminal import Sanitizer

        self._sanitizer = Sanitizer()
        self._stream = stream
        self.at_line_start = True

    def feed(self, text: str) -> None:
        """Show what of ``text`` is complete."""
        self._show(self._sanitizer.feed(text))

    def close(self) -> None:
        """Show the rest, and end the line."""
        self._show(self._sanitizer.flush())
        if not self.at_line_start:
            self._show("\n")

    def _show(self, safe: str) -> None:
        if safe:
            self.at_line_start = safe.endswith("\n")
            _write(self._stream, safe)


class Progress:
    """A line that says how far something is, of less than ``columns``: only one that does not wrap can be
    drawn over. ``stream`` None shows nothing."""

    INTERVAL_SECONDS = 0.1

    def __init__(self, label: str, stream: TextIO | None, columns: int = NO_LIMIT) -> None:
        self._label = label
        self._stream = stream
        self._columns = columns
        self._next = 0.0
        self._draw("")

    def update(self, fraction: float) -> None:
        """``fraction`` of the work is done, 0 to 1."""
        self._draw(f" {min(max(fraction, 0.0), 1.0):.0%}")

    def advance(self, done: int, total: int | None) -> None:
        """``done`` of ``total`` units are done; a total that nobody knows shows nothing."""
        self.update(done / total if total else 0.0)

    def say(self, words: str) -> None:
        """Draw ``words`` behind the label: text of ours, or made harmless by the caller."""
        self._draw(f" {words}")

    def hide(self) -> None:
        """Take the line away until it is drawn again."""
        if self._stream is not None:
            _write(self._stream, "\r\x1b[K")
            self._next = 0.0

    def close(self) -> None:
        """Take the line away; what comes later is not drawn."""
        self.hide()
        self._stream = None

    def _draw(self, tail: str) -> None:
        now = time.monotonic()
        if self._stream is None or (tail and now < self._next):
            return
        self._next = now + self.INTERVAL_SECONDS if tail else 0.0
        room = self._columns - 1
        label = shorten(self._label, max(room - columns_of(tail), 0))
        _write(self._stream, f"\r\x1b[K{shorten(label + tail, room)}")


def _paint(text: str, style: str) -> str:
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def _write(stream: TextIO, text: str) -> None:
    from app.terminal import write

    write(stream, text)
    stream.flush()
