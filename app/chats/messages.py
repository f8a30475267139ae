"""Messages in the database: rows in, rows out. Callers hold the transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from app.chats import search
from app.chats.records import Attachment, Message, of_stamp, stamp, storable
from app.chats.tree import Tree
from app.errors import NoSuchChat

_COLUMNS: Final = "id, chat_id, parent_id, role, content, thinking, model, state, created, facts"
_CHANGEABLE: Final = frozenset({"content", "thinking", "state", "model", "facts"})


def get(connection: sqlite3.Connection, message_id: int) -> Message:
    """Raises NoSuchChat."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM message WHERE id = ?", (message_id,))
    for message in _read(connection, rows, "SELECT ?", message_id):
        return message
    raise NoSuchChat(f"there is no message {message_id}")


def of_chat(connection: sqlite3.Connection, chat_id: int) -> list[Message]:
    """All messages, in the order in which they were written."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM message WHERE chat_id = ? ORDER BY id", (chat_id,))
    return _read(connection, rows, "SELECT id FROM message WHERE chat_id = ?", chat_id)


def path(connection: sqlite3.Connection, leaf_id: int | None) -> list[Message]:
    """From the first message to this one."""
    branch = (
        "WITH RECURSIVE branch (id, parent_id) AS (SELECT id, parent_id FROM message WHERE id = ? UNION ALL "
        "SELECT message.id, message.parent_id FROM message JOIN branch ON message.id = branch.parent_id) "
    )
    rows = connection.execute(
        f"{branch} SELECT {_COLUMNS} FROM message WHERE id IN (SELECT id FROM branch) ORDER BY id", (leaf_id,)
    )
    return _read(connection, rows, f"{branch} SELECT id FROM branch", leaf_id)


def below(tree: Tree, message_id: int) -> list[Message]:
    """A message and all after it."""
    found = [tree.by_id[message_id]]
    for message in found:  # grows meanwhile
        found += tree.children(message.id)
    return found


def insert(connection: sqlite3.Connection, message: Message, *, uid: str) -> Message:
    """The message as it is stored, with its number."""
    message = _storable(message)
    cursor = connection.execute(
        "INSERT INTO message "
        "(chat_id, parent_id, uid, role, content, thinking, model, state, created, facts) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            message.chat_id,
            message.parent_id,
            uid,
            message.role,
            message.content,
            message.thinking,
            message.model,
            message.state,
            stamp(message.created),
            _json(message.facts),
        ),
    )
    assert cursor.lastrowid is not None
    stored = msgspec.structs.replace(message, id=cursor.lastrowid)
    connection.executemany(
        "INSERT INTO attachment (message_id, name, text) VALUES (?, ?, ?)",
        [(stored.id, file.name, file.text) for file in stored.attachments],
    )
    search.index(connection, stored)
    return stored


def update(connection: sqlite3.Connection, message_id: int, changes: Mapping[str, Any]) -> Message:
    """Raises NoSuchChat."""
    if unknown := changes.keys() - _CHANGEABLE:
        raise TypeError(f"a message has no {', '.join(unknown)} to change")
    before = get(connection, message_id)
    after = _storable(msgspec.structs.replace(before, **changes))
    connection.execute(
        "UPDATE message SET content = ?, thinking = ?, state = ?, model = ?, facts = ? WHERE id = ?",
        (
            after.content,
            after.thinking,
            after.state,
            after.model,
            _json(after.facts),
            message_id,
        ),
    )
    if after.content != before.content:
        search.unindex(connection, before)
        search.index(connection, after)
    return after


def _read(
    connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]], which: str, value: int | None
) -> list[Message]:
    """``which`` selects the same messages' numbers, given ``value``."""
    files: dict[int, list[Attachment]] = {}
    for message_id, name, text in connection.execute(
        f"SELECT message_id, name, text FROM attachment WHERE message_id IN ({which}) ORDER BY id", (value,)
    ):
        files.setdefault(message_id, []).append(Attachment(name, text))
    return [
        Message(
            id=row[0],
            chat_id=row[1],
            parent_id=row[2],
            role=row[3],
            content=row[4],
            thinking=row[5],
            model=row[6],
            state=row[7],
            created=of_stamp(row[8]),
            facts=msgspec.json.decode(row[9]),
            attachments=tuple(files.get(row[0], ())),
        )
        for row in rows
    ]


def _storable(message: Message) -> Message:
    return msgspec.structs.replace(
        message,
        content=storable(message.content),
        thinking=storable(message.thinking),
        attachments=tuple(
            Attachment(storable(file.name), storable(file.text)) for file in message.attachments
        ),
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
