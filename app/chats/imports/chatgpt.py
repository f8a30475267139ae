"""A conversation of ChatGPT's export: a mapping of nodes, each with a parent, many of them not shown."""

from __future__ import annotations

from typing import Any

import msgspec

from app.chats.imports.files import FileText
from app.chats.records import now
from app.chats.saved import SavedChat, SavedMessage, moment
from app.chats.tree import ordered

ORIGIN = "chatgpt"


class _Author(msgspec.Struct):
    role: str = ""


class _Content(msgspec.Struct):
    content_type: str = "text"
    parts: list[Any] | None = None
    text: Any = None
    thoughts: Any = None


class _Message(msgspec.Struct):
    author: _Author
    content: _Content | None = None
    create_time: Any = None
    recipient: str | None = None
    metadata: dict[str, Any] | None = None


class _Node(msgspec.Struct):
    message: _Message | None = None
    parent: str | None = None


class _Conversation(msgspec.Struct):
    mapping: dict[str, _Node]
    conversation_id: str | None = None
    id: str | None = None
    title: str | None = None
    create_time: Any = None
    update_time: Any = None
    current_node: str | None = None
    is_starred: bool | None = None


def read(raw: bytes, _file: FileText) -> SavedChat:
    """Raises msgspec.ValidationError."""
    chat = msgspec.json.decode(raw, type=_Conversation)
    created = moment(chat.create_time, now())
    order = ordered({uid: node.parent for uid, node in chat.mapping.items()})
    shown: dict[str, str | None] = {}  # node -> the nearest message that is kept, itself or above it
    thoughts: dict[str, str] = {}  # node -> what was thought on the way to it, and not yet said
    messages: list[SavedMessage] = []
    system: str | None = None
    for uid in order:
        node = chat.mapping[uid]
        above = shown.get(node.parent or "")
        thought = thoughts.get(node.parent or "", "")
        text = _text(node.message)
        shown[uid], thoughts[uid] = above, _joined(thought, _thoughts(node.message))
        if node.message is None or not text.strip() or not _visible(node.message):
            continue
        role = node.message.author.role
        if role == "system":
            system = _joined(system or "", text)
        if role != "user" and role != "assistant":
            continue
        model = (node.message.metadata or {}).get("model_slug")
        messages.append(
            SavedMessage(
                uid=uid,
                parent=above,
                role="user" if role == "user" else "assistant",
                content=text,
                thinking=thought if role == "assistant" else "",
                model=model if isinstance(model, str) and role == "assistant" else None,
                created=moment(node.message.create_time, created),
            )
        )
        shown[uid], thoughts[uid] = uid, ""
    return SavedChat(
        uid=chat.conversation_id or chat.id or (order[0] if order else ""),
        origin=ORIGIN,
        title=chat.title or "",
        pinned=bool(chat.is_starred),
        system=system,
        created=created,
        updated=moment(chat.update_time, created),
        leaf=shown.get(chat.current_node or ""),
        messages=tuple(messages),
    )


def _visible(message: _Message) -> bool:
    hidden = (message.metadata or {}).get("is_visually_hidden_from_conversation")
    return not hidden and message.recipient in (None, "all")


def _text(message: _Message | None) -> str:
    content = message.content if message else None
    if content is None or content.content_type not in ("text", "multimodal_text", "code"):
        return ""
    if content.parts is None:
        return content.text if isinstance(content.text, str) else ""
    return "\n\n".join(filter(None, map(_part, content.parts)))


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = str(part.get("content_type", "")) if isinstance(part, dict) else ""
    if kind == "audio_transcription":
        return str(part.get("text", ""))
    return "[image]" if "image" in kind else ""


def _thoughts(message: _Message | None) -> str:
    content = message.content if message else None
    if content is None or content.content_type != "thoughts" or not isinstance(content.thoughts, list):
        return ""
    texts = [thought.get("content") for thought in content.thoughts if isinstance(thought, dict)]
    return "\n\n".join(text for text in texts if isinstance(text, str))


def _joined(*texts: str) -> str:
    return "\n\n".join(filter(None, texts))
