"""The command line that was given, changed so that it works: what an error proposes."""

from __future__ import annotations

import shlex

from app.cli.front import Front

MAX_CHARACTERS = 2000
"""A longer line is not worth printing: it holds a text that was meant for the model."""


def again(front: Front, *more: str, without: tuple[str, ...] = ()) -> str:
    """The command under way with ``more``: an option and its value, an option alone, or an argument.

    An option of ``more`` takes the place of the one that was given. ``without`` are options with a value to
    leave out. Where the command was given text through a pipe, or a very long one, it says so instead.
    """
    words = front.arguments or ("run", front.model or "MODEL")
    end = words.index("--") if "--" in words else len(words)
    head = _without(words[:end], without)
    if more and more[0].startswith("--"):
        head = _without(head, more[:1]) if len(more) > 1 else [word for word in head if word != more[0]]
        words = (*head, *more, *words[end:])
    else:
        words = (*head, *words[end:], *more)
    line = shlex.join(["localq", *words])
    if len(line) > MAX_CHARACTERS:
        return f"the same command with {shlex.join(more)}" if more else "the same command"
    return f"pipe the same text into: {line}" if front.piped else line


def with_word(front: Front, word: str, other: str) -> str:
    """The command under way with ``other`` in the place of the argument ``word``."""
    line = shlex.join(["localq", *(other if given == word else given for given in front.arguments)])
    if len(line) > MAX_CHARACTERS:
        return f"the same command with {shlex.quote(other)}"
    return f"pipe the same text into: {line}" if front.piped else line


def _without(words: tuple[str, ...] | list[str], options: tuple[str, ...]) -> list[str]:
    """Without the options, each of which stands before its value or is joined to it by ``=``."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in options:
            next(rest, None)
        elif word.split("=", 1)[0] not in options:
            kept.append(word)
    return kept
