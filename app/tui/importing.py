"""Chats of other programs, taken in; and what came of it in a sentence."""

from __future__ import annotations

from pathlib import Path

from app.chats import Chats
from app.chats.imports import read_export
from app.cli.text import plural


def import_chats(chats: Chats, name: str) -> str:
    """Raises UnreadableExport, and what the disk refuses."""
    new = grown = same = messages = unread = 0
    reason = ""
    for found in read_export(Path(name)):
        if found.unread is not None:
            unread += 1
            reason = reason or f"{found.unread.where}: {found.unread.reason}"
        if found.chat is None:
            continue
        adopted = chats.adopt(found.chat)
        messages += adopted.messages
        new += adopted.new
        grown += not adopted.new and adopted.messages > 0
        same += not adopted.new and adopted.messages == 0
    said = f"{plural(new, 'chat')} imported, {grown:,} added to, {same:,} there already: "
    said += f"{plural(messages, 'message')}."
    return f"{said} {unread:,} could not be read, such as {reason}" if unread else said
