"""Messages of OpenAI's shape: what ``/api/chat`` of Ollama and every server like OpenAI's are sent."""

from __future__ import annotations

from typing import Any

import msgspec

from app.chats.imports.files import FileText
from app.chats.records import now
from app.chats.saved import SavedChat, SavedMessage, content_uid

ORIGIN = "messages"


class _Message(msgspec.Struct):
    role: str
    content: Any = ""
    thinking: str | None = None
    reasoning_content: str | None = None


class _Chat(msgspec.Struct):
    messages: list[_Message]
    model: str | None = None
    title: str | None = None
    name: str | None = None
    system: str | None = None


def is_message(raw: msgspec.Raw) -> bool:
    """Whether an element is a message and not a chat."""
    try:
        keys = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return "role" in keys and "content" in keys


def read(raw: bytes, file: FileText) -> SavedChat:
    """Raises msgspec.ValidationError."""
    chat = msgspec.json.decode(raw, type=_Chat)
    moment = now()
    system = chat.system
    messages: list[SavedMessage] = []
    parent: str | None = None
    for message in chat.messages:
        text = _text(message.content)
        if message.role in ("system", "developer"):
            system = "\n\n".join(filter(None, [system, text]))
        if message.role not in ("user", "assistant") or not text.strip():
            continue
        parent = content_uid(parent, message.role, text)
        messages.append(
            SavedMessage(
                uid=parent,
                parent=messages[-1].uid if messages else None,
                role="user" if message.role == "user" else "assistant",
                content=text,
                thinking=message.thinking or message.reasoning_content or "",
                model=chat.model if message.role == "assistant" else None,
                created=moment,
            )
        )
    return SavedChat(
        uid=content_uid(file.path.name, messages[0].uid if messages else ""),
        origin=ORIGIN,
        title=chat.title or chat.name or "",
        folder=file.folder,
        model=chat.model,
        system=system,
        created=moment,
        updated=moment,
        leaf=parent,
        messages=tuple(messages),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [
        part.get("text") if part.get("type") == "text" else "[image]"
        for part in parts
        if isinstance(part, dict)
    ]
    return "\n\n".join(text for text in texts if isinstance(text, str))
