"""Text that is piped into a command."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable

from app.errors import WrongUse

MAX_BYTES = 16 << 20
PATIENCE_SECONDS = 2.0


def piped_text(say: Callable[[str], None]) -> str | None:
    """All of stdin as text, or None where stdin is a terminal, closed or empty.

    ``say`` hears that something is waited for, when nothing comes for a while.
    Raises WrongUse for more than 16 MiB, and for what is not UTF-8.
    """
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    _wait(say)
    raw = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise WrongUse(
            f"stdin has more than {MAX_BYTES >> 20} MiB, which fits into no context; pipe a part of it",
            next_command="localq run --help",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WrongUse(
            f"stdin is not UTF-8 text (byte {error.start} is 0x{raw[error.start]:02x}); convert it first",
            next_command="iconv --help",
        ) from error
    return text if text.strip() else None


def require_text(what: str, text: str | None) -> None:
    """Raise WrongUse for an argument whose bytes are no text in the terminal's encoding."""
    try:
        (text or "").encode("utf-8")
    except UnicodeEncodeError as error:
        raise WrongUse(
            f"{what} is not UTF-8 text (at its character {error.start + 1}); check the terminal's locale",
            next_command="locale",
        ) from error


def with_attachment(prompt: str | None, attachment: str | None) -> str | None:
    """The prompt with the piped text below it; either alone where the other is missing."""
    if prompt and attachment:
        return f"{prompt}\n\n{attachment}"
    return prompt or attachment


def _wait(say: Callable[[str], None]) -> None:
    """An open pipe that nobody writes to looks like a hang: say what is waited for."""
    try:
        ready, _, _ = select.select([sys.stdin], [], [], PATIENCE_SECONDS)
    except (OSError, ValueError):
        return  # not something that can be waited for: it will be read at once
    if not ready:
        say("waiting for the text piped into stdin (run with < /dev/null where there is none)")
