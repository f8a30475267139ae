"""Chats as documents: Markdown to read, JSON to carry."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import msgspec

from app.chats.chats import Chats
from app.chats.conversation import attached
from app.chats.records import Chat, Message
from app.chats.saved import Archive, SavedChat
from app.terminal import json_line, sanitize

_NAME_CHARACTERS = 60


def to_markdown(chat: Chat, branch: Sequence[Message], branches: int = 1) -> str:
    """The current branch to read; what a terminal would obey is shown instead.

    A heading within a message stands a level below the message's own, so that the turns stay the outline.
    """
    said = f"{chat.created:%Y-%m-%d} · {len(branch)} messages"
    if branches > 1:
        said += f" · one of {branches} branches, the JSON export has all"
    parts = [f"# {chat.title.strip() or 'Untitled'}", f"*{said}*"]
    if chat.system:
        parts += ["## System", chat.system]
    for message in branch:
        parts.append("## You" if message.role == "user" else f"## {message.model or 'Assistant'}")
        if message.thinking.strip():
            parts.append(_quoted(message.thinking))
        parts.append(_deeper(message.content))
        parts += map(attached, message.attachments)
        if message.state in _ENDS:
            parts.append(f"*({_ENDS[message.state]})*")
    return sanitize("\n\n".join(part.rstrip() for part in parts if part.strip())) + "\n"


def markdown_of(chats: Chats, chat: Chat) -> str:
    """The current branch of a chat, read from the disk."""
    return to_markdown(chat, chats.branch(chat.id), chats.tree(chat.id).branches())


_ENDS = {
    "stopped": "stopped here",
    "length": "the limit of tokens was reached here",
    "failed": "failed here",
    "writing": "interrupted here",
}


def to_json(chats: Sequence[SavedChat]) -> bytes:
    """All branches, in ASCII; ``localq chats import`` takes it in again."""
    return msgspec.json.format(json_line(Archive(chats=tuple(chats))).encode()) + b"\n"


def file_stem(chat: Chat) -> str:
    """A name for a file: the title in letters, digits and dashes, and the number, which makes it unique."""
    plain = unicodedata.normalize("NFKC", chat.title).lower()
    words = re.sub(r"[^\w]+", "-", plain).strip("-_")[:_NAME_CHARACTERS].strip("-_")
    return f"{chat.id}-{words}" if words else str(chat.id)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in ["*Thinking*", "", *text.strip().splitlines()])


def _deeper(text: str) -> str:
    """Headings outside of code fences, two levels down."""
    lines, fence = [], ""
    for line in text.splitlines():
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        elif not fence and (heading := re.match(r"#{1,6}(?= )", line)):
            line = "#" * min(6, len(heading[0]) + 2) + line[len(heading[0]) :]
        lines.append(line)
    return "\n".join(lines)
