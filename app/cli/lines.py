"""Reading what a person types: edited lines with history, and prompts of several lines."""

from __future__ import annotations

import sys
from collections.abc import Callable

from app.cli.history import History

PROMPT, CONTINUATION = ">>> ", "... "
FENCE = '"""'


class LineReader:
    """Lines from the terminal. ``complain`` hears once that the history cannot be kept; None keeps none."""

    def __init__(self, history: History | None, complain: Callable[[str], None]) -> None:
        self._history = history
        self._complain = complain
        self._edited = sys.stdin.isatty() and sys.stdout.isatty()
        if self._edited:
            try:
                import readline
            except ImportError:  # a Python built without it: the terminal's own editing remains
                return
            if history is not None:
                for line in self._try(history.load) or []:
                    readline.add_history(line)

    def read(self, prompt: str) -> str:
        """One line without its end. Raises EOFError at Ctrl-D and KeyboardInterrupt at Ctrl-C."""
        try:
            line = self._line(prompt)
            line.encode("utf-8")
        except UnicodeError:
            self._complain("that line is not UTF-8 text, so it was dropped")
            return ""
        history = self._history
        if self._edited and history is not None:
            self._try(lambda: history.add(line))
        return line

    def _line(self, prompt: str) -> str:
        if self._edited:
            return input(prompt)
        # The answers on stdout go elsewhere: the prompt must not get among them.
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")

    def _try(self, action: Callable[[], list[str] | None]) -> list[str] | None:
        """History is a comfort: where the disk refuses it, say so once and go on without."""
        try:
            return action()
        except OSError as error:
            path = self._history.path if self._history is not None else ""
            self._complain(f"typed lines are not kept: {path}: {error.strerror}")
            self._history = None
            return None


def read_prompt(read: Callable[[str], str]) -> str:
    """One prompt: a line, lines joined by a backslash at each end, or what stands between triple quotes.

    Raises what ``read`` raises, in the middle of a prompt too: the prompt is then dropped.
    """
    line = read(PROMPT)
    if line.lstrip().startswith(FENCE):
        return _fenced(line.lstrip().removeprefix(FENCE), read)
    lines = []
    while line.endswith("\\"):
        lines.append(line.removesuffix("\\"))
        line = read(CONTINUATION)
    return "\n".join([*lines, line])


def _fenced(line: str, read: Callable[[str], str]) -> str:
    lines = []
    while not line.rstrip().endswith(FENCE):
        lines.append(line)
        line = read(CONTINUATION)
    lines.append(line.rstrip().removesuffix(FENCE))
    return "\n".join(lines).strip("\n")
