"""A chat of Open WebUI's export, the usual front of Ollama: a history of messages, each with a parent."""

from __future__ import annotations

import html
import re
from typing import Any, Final

import msgspec

from app.chats.imports.files import FileText
from app.chats.records import now
from app.chats.saved import SavedChat, SavedMessage, content_uid, moment

ORIGIN = "openwebui"
_OPENED: Final = '<details type="reasoning"'
_CLOSED: Final = "</details>"


class _Message(msgspec.Struct):
    role: str = ""
    content: Any = ""
    parent: str | None = msgspec.field(default=None, name="parentId")
    model: str | None = None
    timestamp: Any = None


class _History(msgspec.Struct):
    messages: dict[str, _Message]
    current: str | None = msgspec.field(default=None, name="currentId")


class _Chat(msgspec.Struct):
    history: _History
    title: str | None = None
    system: str | None = None


class _Entry(msgspec.Struct):
    chat: _Chat
    id: str | None = None
    title: str | None = None
    created: Any = msgspec.field(default=None, name="created_at")
    updated: Any = msgspec.field(default=None, name="updated_at")
    pinned: bool | None = None


def read(raw: bytes, _file: FileText) -> SavedChat:
    """An element of an export. Raises msgspec.ValidationError."""
    return _saved(msgspec.json.decode(raw, type=_Entry))


def read_chat(raw: bytes, _file: FileText) -> SavedChat:
    """A chat without what an export has around it. Raises msgspec.ValidationError."""
    return _saved(_Entry(msgspec.json.decode(raw, type=_Chat)))


def _saved(entry: _Entry) -> SavedChat:
    history = entry.chat.history
    created = moment(entry.created, now())
    messages = []
    for uid, message in history.messages.items():
        if message.role not in ("user", "assistant") or not isinstance(message.content, str):
            continue
        content, thinking = _parted(message.content)
        messages.append(
            SavedMessage(
                uid=uid,
                parent=message.parent,
                role="user" if message.role == "user" else "assistant",
                content=content,
                thinking=thinking,
                model=message.model if message.role == "assistant" else None,
                created=moment(message.timestamp, created),
            )
        )
    return SavedChat(
        uid=entry.id or content_uid(None, *history.messages),
        origin=ORIGIN,
        title=entry.title or entry.chat.title or "",
        pinned=bool(entry.pinned),
        system=entry.chat.system or None,
        created=created,
        updated=moment(entry.updated, created),
        leaf=history.current,
        messages=tuple(messages),
    )


def _parted(content: str) -> tuple[str, str]:
    """What was said and what was thought, which stands in HTML within it."""
    said = ""
    thought: list[str] = []
    while True:
        before, opened, rest = content.partition(_OPENED)
        said += before
        inside, closed, after = rest.partition(_CLOSED)
        if not closed:
            return said + opened + rest, "\n\n".join(thought)
        body = inside.partition(">")[2]
        thought.append(html.unescape(re.sub(r"^\s*<summary>[^<]*</summary>", "", body)).strip())
        content = after.lstrip()
