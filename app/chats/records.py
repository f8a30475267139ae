"""What a chat history holds, as its callers see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

Role: TypeAlias = Literal["user", "assistant"]
State: TypeAlias = Literal["done", "stopped", "length", "failed", "writing"]
"""How an answer ended: by itself, by its reader, at a limit of tokens, by an error; or that it has not ended.

``writing`` in a chat that nobody writes to is what a process that was killed left: all that it had saved.
"""


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TITLE_CHARACTERS: Final = 80
"""Of a title made of a message."""
NAME_CHARACTERS: Final = 200


class Attachment(msgspec.Struct, frozen=True):
    """A text that was sent along with a message."""

    name: str
    text: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. ``facts`` are what is known of its making: usage, timings, sampling; JSON values."""

    id: int
    chat_id: int
    parent_id: int | None
    role: Role
    content: str
    thinking: str = ""
    model: str | None = None
    state: State = "done"
    created: datetime
    attachments: tuple[Attachment, ...] = ()
    facts: dict[str, Any] = {}


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation without its messages."""

    id: int
    title: str
    """Given, or made of the first message."""
    folder: str = ""
    pinned: bool = False
    model: str | None = None
    """The reference of the model that was talked to last."""
    system: str | None = None
    """The system prompt; None leaves it to the model."""
    settings: dict[str, Any] = {}
    """What the person chose for this chat: sampling and the like; JSON values."""
    leaf_id: int | None = None
    """The last message of the current branch; None in an empty chat."""
    created: datetime
    updated: datetime
    messages: int = 0
    """In all branches."""
    origin: str = "localq"
    """The program that it was imported from."""


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A place that a search found. ``message_id`` None: the chat's title."""

    chat_id: int
    title: str
    folder: str
    pinned: bool
    message_id: int | None
    role: Role | None
    created: datetime
    """Of the message, or of the chat's last change."""
    excerpt: str
    """One line around what was found."""
    spans: tuple[tuple[int, int], ...]
    """What was found, as ranges of ``excerpt``."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed and not sent yet."""

    text: str = ""
    cursor: tuple[int, int] = (0, 0)
    """Line and column."""
    attachments: tuple[Attachment, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.text and not self.attachments


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A text that a person keeps for use again: a system prompt (a persona), or a template of a message."""

    kind: Literal["persona", "template"]
    name: str
    text: str


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> int:
    """Microseconds since 1970: all that a datetime knows."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def of_stamp(microseconds: int) -> datetime:
    """The inverse of :func:`stamp`."""
    return _EPOCH + timedelta(microseconds=microseconds)


class Titled(Protocol):
    """A message, stored or saved."""

    @property
    def content(self) -> str: ...

    @property
    def attachments(self) -> tuple[Attachment, ...]: ...


def title_of(message: Titled) -> str:
    """The first line of a message, shortened at a word; empty for one without any text."""
    lines = [line for line in message.content.splitlines() if line.strip()]
    line = " ".join(lines[0].split()) if lines else ", ".join(file.name for file in message.attachments)
    if len(line) <= TITLE_CHARACTERS:
        return line
    cut = line[: TITLE_CHARACTERS - 1]
    head = cut.rpartition(" ")[0]
    return f"{head if len(head) > TITLE_CHARACTERS // 2 else cut}…"


def one_line(text: str) -> str:
    """A title or the name of a folder, as it is stored: of one line, and not endless."""
    return storable(" ".join(text[: 4 * NAME_CHARACTERS].split()))[:NAME_CHARACTERS]


def storable(text: str) -> str:
    """``text`` with a question mark for each half of a surrogate pair, which no UTF-8 file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
