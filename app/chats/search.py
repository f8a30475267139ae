"""The index of words, and finding in it. Callers hold the transaction."""

from __future__ import annotations

import sqlite3
from typing import Final

from app.chats.records import Hit, Message, of_stamp
from app.chats.words import Query, words

NEWEST: Final = 2000
"""Of a word that is in everything so many messages are ranked, the newest: to rank 100,000 takes 100 ms."""
_TITLES: Final = 10


def index(connection: sqlite3.Connection, message: Message) -> None:
    """Puts a message's words in."""
    _put(connection, "message_words", message.id, _text_of(message))


def unindex(connection: sqlite3.Connection, message: Message) -> None:
    """Takes a message's words out; it must be what :func:`index` was given."""
    _take(connection, "message_words", message.id, _text_of(message))


def index_title(connection: sqlite3.Connection, chat_id: int, title: str, *, before: str = "") -> None:
    """Puts a title's words in, in the place of those of ``before``."""
    _take(connection, "title_words", chat_id, before)
    _put(connection, "title_words", chat_id, title)


def find(connection: sqlite3.Connection, typed: str, limit: int) -> list[Hit]:
    """See :meth:`app.chats.Chats.search`."""
    query = Query(typed)
    if not query.expression:
        return []
    titles = [_title_hit(query, row) for row in connection.execute(*_title_statement(query, limit))]
    ranked = connection.execute(
        "SELECT rowid FROM (SELECT rowid, bm25(message_words) AS score FROM message_words "
        "WHERE message_words MATCH ? ORDER BY rowid DESC LIMIT ?) ORDER BY score, rowid DESC LIMIT ?",
        (query.expression, NEWEST, max(0, limit - len(titles))),
    ).fetchall()
    hits = [_message_hit(connection, query, message_id) for (message_id,) in ranked]
    return [*titles, *(hit for hit in hits if hit is not None)]


def _title_statement(query: Query, limit: int) -> tuple[str, tuple[object, ...]]:
    return (
        "SELECT id, title, folder, pinned, updated FROM chat WHERE id IN "
        "(SELECT rowid FROM title_words WHERE title_words MATCH ? ORDER BY rowid DESC LIMIT ?) "
        "ORDER BY updated DESC",
        (query.expression, min(_TITLES, limit)),
    )


def _title_hit(query: Query, row: tuple[int, str, str, int, int]) -> Hit:
    chat_id, title, folder, pinned, updated = row
    excerpt, spans = query.excerpt(title)
    return Hit(
        chat_id=chat_id,
        title=title,
        folder=folder,
        pinned=bool(pinned),
        message_id=None,
        role=None,
        created=of_stamp(updated),
        excerpt=excerpt,
        spans=spans,
    )


def _message_hit(connection: sqlite3.Connection, query: Query, message_id: int) -> Hit | None:
    row = connection.execute(
        "SELECT chat_id, title, folder, pinned, role, message.created, content FROM message "
        "JOIN chat ON chat.id = chat_id WHERE message.id = ?",
        (message_id,),
    ).fetchone()
    if row is None:
        return None
    chat_id, title, folder, pinned, role, created, content = row
    excerpt, spans = query.excerpt(content)
    if not spans:
        for (text,) in connection.execute(
            "SELECT name || ': ' || text FROM attachment WHERE message_id = ?", (message_id,)
        ):
            found, places = query.excerpt(text)
            if places:
                excerpt, spans = found, places
                break
    return Hit(
        chat_id=chat_id,
        title=title,
        folder=folder,
        pinned=bool(pinned),
        message_id=message_id,
        role=role,
        created=of_stamp(created),
        excerpt=excerpt,
        spans=spans,
    )


def _text_of(message: Message) -> str:
    files = (f"{file.name}\n{file.text}" for file in message.attachments)
    return words("\n".join([message.content, *files]))


def _put(connection: sqlite3.Connection, table: str, rowid: int, text: str) -> None:
    if text.strip():
        connection.execute(f"INSERT INTO {table} (rowid, words) VALUES (?, ?)", (rowid, text))


def _take(connection: sqlite3.Connection, table: str, rowid: int, text: str) -> None:
    if text.strip():
        connection.execute(
            f"INSERT INTO {table} ({table}, rowid, words) VALUES ('delete', ?, ?)", (rowid, text)
        )
