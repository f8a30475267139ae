"""A conversation file of LM Studio: messages in a row, each in one or several versions."""

from __future__ import annotations

from typing import Any

import msgspec

from app.chats.imports.files import FileText
from app.chats.records import Role, now
from app.chats.saved import SavedChat, SavedMessage, content_uid, moment

ORIGIN = "lmstudio"
_SYSTEM_FIELD = "llm.prediction.systemPrompt"


class _Part(msgspec.Struct):
    type: str = "text"
    text: str | None = None
    name: str | None = None
    is_structural: bool | None = msgspec.field(default=None, name="isStructural")


class _Style(msgspec.Struct):
    type: str = ""


class _Step(msgspec.Struct):
    type: str = ""
    content: list[_Part] | None = None
    style: _Style | None = None


class _Sender(msgspec.Struct):
    sender_name: str | None = msgspec.field(default=None, name="senderName")


class _Version(msgspec.Struct):
    role: str
    content: list[_Part] | str | None = None
    steps: list[_Step] | None = None
    sender: _Sender | None = msgspec.field(default=None, name="senderInfo")


class _Message(msgspec.Struct):
    versions: list[_Version]
    selected: int | None = msgspec.field(default=None, name="currentlySelected")


class _Field(msgspec.Struct):
    key: str = ""
    value: Any = None


class _Config(msgspec.Struct):
    fields: list[_Field] | None = None


class _Conversation(msgspec.Struct):
    messages: list[_Message]
    name: str | None = None
    pinned: bool | None = None
    created: Any = msgspec.field(default=None, name="createdAt")
    system: str | None = msgspec.field(default=None, name="systemPrompt")
    config: _Config | None = msgspec.field(default=None, name="perChatPredictionConfig")


def read(raw: bytes, file: FileText) -> SavedChat:
    """Raises msgspec.ValidationError, also for messages without versions."""
    chat = msgspec.json.decode(raw, type=_Conversation)
    created = moment(chat.created, now())
    messages: list[SavedMessage] = []
    parent: str | None = None
    for message in chat.messages:
        uids: list[str | None] = []
        for version in message.versions:
            saved = _saved(version, parent, chat)
            uids.append(saved.uid if saved else parent)
            if saved and saved.uid not in {known.uid for known in messages[-len(message.versions) :]}:
                messages.append(saved)
        if uids:
            selected = message.selected or 0
            parent = uids[selected if 0 <= selected < len(uids) else -1]
    return SavedChat(
        uid=file.path.name.removesuffix(".json").removesuffix(".conversation"),
        origin=ORIGIN,
        title=chat.name or "",
        folder=file.folder,
        pinned=bool(chat.pinned),
        system=_system(chat),
        created=created,
        updated=created,
        leaf=parent,
        messages=tuple(messages),
    )


def _saved(version: _Version, parent: str | None, chat: _Conversation) -> SavedMessage | None:
    if version.role not in ("user", "assistant"):
        return None
    role: Role = "user" if version.role == "user" else "assistant"
    steps = [step for step in version.steps or () if step.type == "contentBlock"]
    said = [step for step in steps if step.style is None or step.style.type != "thinking"]
    thought = [step for step in steps if step not in said]
    content = "\n\n".join(filter(None, [_text(version.content), *(_text(step.content) for step in said)]))
    if not content.strip():
        return None
    return SavedMessage(
        uid=content_uid(parent, role, content),
        parent=parent,
        role=role,
        content=content,
        thinking="\n\n".join(_text(step.content) for step in thought),
        model=version.sender.sender_name if version.sender and role == "assistant" else None,
        created=moment(chat.created, now()),
    )


def _text(content: list[_Part] | str | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(filter(None, map(_part, content)))


def _part(part: _Part) -> str:
    if part.is_structural:
        return ""
    if part.type == "file":
        return f"[file: {part.name}]" if part.name else "[file]"
    return part.text or ""


def _system(chat: _Conversation) -> str | None:
    if chat.system:
        return chat.system
    fields = chat.config.fields if chat.config else None
    return next(
        (
            field.value
            for field in fields or ()
            if field.key == _SYSTEM_FIELD and isinstance(field.value, str) and field.value
        ),
        None,
    )
