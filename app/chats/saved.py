"""A chat outside of the database: what is exported, and what every import is made into first."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from app.chats.records import Attachment, Role, State

FORMAT: Final = 1
Moment: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class SavedMessage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A turn; ``uid`` and ``parent`` name it and its parent within its chat."""

    uid: str
    parent: str | None = None
    role: Role
    content: str
    thinking: str = ""
    model: str | None = None
    state: State = "done"
    created: Moment
    attachments: tuple[Attachment, ...] = ()
    facts: dict[str, Any] = {}


class SavedChat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A chat with all of its branches. ``leaf`` is the last message of the current one.

    ``origin`` and ``uid`` together name it everywhere: importing it again adds what is new in it.
    """

    uid: str
    origin: str = "localq"
    title: str = ""
    folder: str = ""
    pinned: bool = False
    model: str | None = None
    system: str | None = None
    settings: dict[str, Any] = {}
    created: Moment
    updated: Moment
    leaf: str | None = None
    messages: tuple[SavedMessage, ...] = ()


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """The document of an export. ``localq_chats`` is the version of the form."""

    localq_chats: Literal[1] = FORMAT
    chats: tuple[SavedChat, ...] = ()


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of a saved chat."""

    chat_id: int
    new: bool
    """False where it was there before."""
    messages: int
    """Added by this."""


def content_uid(parent: str | None, *parts: str) -> str:
    """A name for a message that came without one: the same for the same words in the same place."""
    return hashlib.sha256("\0".join([parent or "", *parts]).encode("utf-8", "replace")).hexdigest()[:32]


def moment(seconds: object, default: datetime) -> datetime:
    """A time that a file gives in seconds since 1970, or in milliseconds; anything else is ``default``."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return default
    try:
        return datetime.fromtimestamp(seconds / 1000 if seconds > 1e11 else seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return default
