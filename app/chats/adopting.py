"""Between the database and saved chats. Callers hold the transaction."""

from __future__ import annotations

import sqlite3

import msgspec

from app.chats import messages, search
from app.chats.records import Chat, Message, one_line, stamp, storable, title_of
from app.chats.saved import Adopted, SavedChat, SavedMessage
from app.chats.tree import ordered


def save(connection: sqlite3.Connection, chat: Chat) -> SavedChat:
    """All that is known of a chat."""
    (uid,) = connection.execute("SELECT uid FROM chat WHERE id = ?", (chat.id,)).fetchone()
    uids = dict(connection.execute("SELECT id, uid FROM message WHERE chat_id = ?", (chat.id,)))
    return SavedChat(
        uid=uid,
        origin=chat.origin,
        title=chat.title,
        folder=chat.folder,
        pinned=chat.pinned,
        model=chat.model,
        system=chat.system,
        settings=chat.settings,
        created=chat.created,
        updated=chat.updated,
        leaf=uids.get(chat.leaf_id),
        messages=tuple(
            SavedMessage(
                uid=uids[message.id],
                parent=None if message.parent_id is None else uids[message.parent_id],
                role=message.role,
                content=message.content,
                thinking=message.thinking,
                model=message.model,
                state=message.state,
                created=message.created,
                attachments=message.attachments,
                facts=message.facts,
            )
            for message in messages.of_chat(connection, chat.id)
        ),
    )


def adopt(connection: sqlite3.Connection, saved: SavedChat) -> Adopted:
    """Makes the chat, or adds to the one of the same origin and uid what it lacks."""
    found = connection.execute(
        "SELECT id FROM chat WHERE origin = ? AND uid = ?", (saved.origin, saved.uid)
    ).fetchone()
    chat_id = found[0] if found else _make(connection, saved)
    known: dict[str, int] = dict(
        connection.execute("SELECT uid, id FROM message WHERE chat_id = ?", (chat_id,))
    )
    by_uid = {message.uid: message for message in saved.messages}
    added = 0
    for uid in ordered({message.uid: message.parent for message in by_uid.values()}):
        if uid not in known:
            known[uid] = _insert(connection, chat_id, by_uid[uid], known).id
            added += 1
    if added or not found:
        leaf_id = known.get(saved.leaf or "", max(known.values(), default=None))
        connection.execute(
            "UPDATE chat SET leaf_id = ?, updated = max(?, CASE WHEN ? THEN updated ELSE 0 END) WHERE id = ?",
            (leaf_id, stamp(saved.updated), bool(found), chat_id),
        )
    return Adopted(chat_id, not found, added)


def _make(connection: sqlite3.Connection, saved: SavedChat) -> int:
    title = one_line(saved.title) or next(filter(None, map(title_of, saved.messages)), "")
    cursor = connection.execute(
        "INSERT INTO chat (uid, origin, title, folder, pinned, model, system, settings, created, updated) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            saved.uid,
            saved.origin,
            title,
            one_line(saved.folder),
            saved.pinned,
            saved.model,
            saved.system if saved.system is None else storable(saved.system),
            msgspec.json.encode(saved.settings).decode(),
            stamp(saved.created),
            stamp(saved.updated),
        ),
    )
    assert cursor.lastrowid is not None
    search.index_title(connection, cursor.lastrowid, title)
    return cursor.lastrowid


def _insert(
    connection: sqlite3.Connection, chat_id: int, message: SavedMessage, known: dict[str, int]
) -> Message:
    return messages.insert(
        connection,
        Message(
            id=0,
            chat_id=chat_id,
            parent_id=known.get(message.parent or ""),
            role=message.role,
            content=message.content,
            thinking=message.thinking,
            model=message.model,
            state=message.state,
            created=message.created,
            attachments=message.attachments,
            facts=message.facts,
        ),
        uid=message.uid,
    )
