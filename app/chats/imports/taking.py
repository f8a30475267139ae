"""Taking chats in from files, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from app.chats.chats import Chats
from app.chats.imports.read import Unread, read_export


@dataclass
class Taken:
    """Counts of chats, and of messages that are new."""

    new: int = 0
    grown: int = 0
    """Were here, and have got messages."""
    unchanged: int = 0
    messages: int = 0
    unread: list[Unread] = field(default_factory=list)

    @property
    def chats(self) -> int:
        return self.new + self.grown + self.unchanged


def take_in(
    chats: Chats, paths: Iterable[Path], on_chat: Callable[[Taken], None] = lambda taken: None
) -> Taken:
    """All chats of these files and folders. Raises UnreadableExport, and what the disk refuses."""
    taken = Taken()
    for path in paths:
        for found in read_export(path):
            if found.unread is not None:
                taken.unread.append(found.unread)
            if found.chat is None:
                continue
            adopted = chats.adopt(found.chat)
            taken.messages += adopted.messages
            taken.new += adopted.new
            taken.grown += not adopted.new and adopted.messages > 0
            taken.unchanged += not adopted.new and adopted.messages == 0
            on_chat(taken)
    return taken
