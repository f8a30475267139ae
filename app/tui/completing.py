"""What could be meant by what is being typed: a slash command, or a file behind an ``@``. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from app.tui.commands import COMMANDS
from app.tui.files import match_files

_AT: Final = re.compile(r"(?:^|(?<=\s))@(\S*)$")


@dataclass(frozen=True)
class Suggestion:
    """``text`` is put in the place of what is typed from column ``start`` of the cursor's line on."""

    kind: Literal["command", "file"]
    start: int
    text: str
    help: str = ""
    complete: bool = False
    """Nothing needs to be typed behind it."""


def begun(line: str, column: int, row: int) -> tuple[Literal["command", "file"], int, str] | None:
    """What kind of thing is being typed at the cursor, from which column, and its letters so far."""
    before = line[:column]
    if row == 0 and re.fullmatch(r"/[a-z]*", before) and len(before) == len(line.rstrip()):
        return "command", 0, before[1:]
    if match := _AT.search(before):
        return "file", match.start(), match[1]
    return None


def suggest(line: str, column: int, row: int, files: Sequence[str]) -> list[Suggestion]:
    """The likeliest first; none where nothing of the kind is being typed."""
    found = begun(line, column, row)
    if found is None:
        return []
    kind, start, letters = found
    if kind == "file":
        return [Suggestion("file", start, name) for name in match_files(letters, files)]
    first = [command for command in COMMANDS if command.name.startswith(letters)]
    others = [command for command in COMMANDS if letters in command.name and command not in first]
    return [
        Suggestion(
            "command",
            start,
            f"/{command.name}",
            f"{command.help} {command.argument}".strip(),
            not command.needs_argument,
        )
        for command in [*first, *others]
    ]
