"""Several bars on the terminal, one for each file and one for all: drawn over, and gone at the end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

DRAWS_A_SECOND = 8
TOTAL = "total"


class Bars:
    """Bars by their names, in the order in which they come. ``stream`` None shows nothing."""

    def __init__(self, stream: TextIO | None, *, color: bool = True) -> None:
        self._stream = stream
        self._color = color
        self._tasks: dict[str, TaskID] = {}
        self._progress: RichProgress | None = None

    def show(self, name: str, done: int, total: int, words: str = "") -> None:
        """Bytes ``done`` of ``total``, and ``words`` behind them, such as the speed."""
        if self._stream is None:
            return
        from app.terminal import sanitize

        progress = self._drawn()
        if name not in self._tasks:
            safe = sanitize(name, newlines=False)
            self._tasks[name] = progress.add_task(safe, total=total, words="", start=True)
        progress.update(self._tasks[name], completed=done, total=total, words=sanitize(words, newlines=False))

    def remove(self, name: str) -> None:
        """Takes a bar away."""
        task = self._tasks.pop(name, None)
        if task is not None and self._progress is not None:
            self._progress.remove_task(task)

    def hide(self) -> None:
        """Takes the bars away until the next one is shown."""
        if self._progress is not None:
            self._progress.stop()

    def close(self) -> None:
        """Takes the bars away; what comes later is not drawn."""
        self.hide()
        self._stream = None

    def _drawn(self) -> RichProgress:
        if self._progress is None:
            self._progress = self._made()
        if not self._progress.live.is_started:
            self._progress.start()
        return self._progress

    def _made(self) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        console = Console(file=self._stream or sys.stderr, no_color=not self._color, highlight=False)
        return RichProgress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=2)),
            BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=8)),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
            transient=True,
            refresh_per_second=DRAWS_A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )
