"""The tables, and the way from each version of them to the next.

``PRAGMA user_version`` is the number of migrations that were made. A migration that has been released is
never changed.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x6C6F6371
"""``locq``: SQLite's mark of whose file it is."""

_FIRST = """
CREATE TABLE chat (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given again: an old number finds nothing, not another chat
    uid TEXT NOT NULL,                     -- its name outside of this file
    origin TEXT NOT NULL DEFAULT 'localq',
    title TEXT NOT NULL DEFAULT '',
    folder TEXT NOT NULL DEFAULT '',
    pinned INTEGER NOT NULL DEFAULT 0,
    model TEXT,
    system TEXT,
    settings TEXT NOT NULL DEFAULT '{}',
    leaf_id INTEGER,
    created INTEGER NOT NULL,              -- microseconds since 1970, UTC
    updated INTEGER NOT NULL,
    UNIQUE (origin, uid)
);
CREATE INDEX chat_order ON chat (pinned DESC, updated DESC);

CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chat_id INTEGER NOT NULL REFERENCES chat (id) ON DELETE CASCADE,
    parent_id INTEGER REFERENCES message (id) ON DELETE CASCADE,
    uid TEXT NOT NULL,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    thinking TEXT NOT NULL DEFAULT '',
    model TEXT,
    state TEXT NOT NULL DEFAULT 'done',
    facts TEXT NOT NULL DEFAULT '{}',
    created INTEGER NOT NULL,
    UNIQUE (chat_id, uid)
);
CREATE INDEX message_of_chat ON message (chat_id, id);
CREATE INDEX message_children ON message (parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE attachment (
    id INTEGER PRIMARY KEY,
    message_id INTEGER NOT NULL REFERENCES message (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX attachment_of_message ON attachment (message_id);

-- The words of messages with their attachments, and of titles, as app.chats.words cuts them. The tables hold
-- no text of their own, so each change says the old words to take them out.
CREATE VIRTUAL TABLE message_words USING fts5 (
    words, content = '', tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3'
);
CREATE VIRTUAL TABLE title_words USING fts5 (
    words, content = '', tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3'
);

CREATE TABLE draft (
    chat_id INTEGER PRIMARY KEY,           -- 0 = of a chat that has not begun
    draft TEXT NOT NULL
);
CREATE TABLE prompt (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE TABLE state (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
"""

MIGRATIONS: tuple[str, ...] = (_FIRST,)


def version(connection: sqlite3.Connection) -> int:
    """How many migrations the file has had."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the file to the newest version, in one transaction that other processes wait for."""
    if version(connection) >= len(MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for script in MIGRATIONS[version(connection) :]:  # asked again: another process may have been first
            for statement in _statements(script):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    """``executescript`` would commit the transaction that is open."""
    statements, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
