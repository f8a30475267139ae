"""The chats of Ollama's desktop app, from the SQLite file that it keeps them in (``db.sqlite``)."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from app.chats.records import now
from app.chats.saved import SavedChat, SavedMessage, content_uid
from app.errors import UnreadableExport

ORIGIN: Final = "ollama"
PATIENCE_SECONDS: Final = 60.0
"""For one chat: a file made to keep SQLite busy for ever is given up."""


def read_database(path: Path) -> Iterator[SavedChat]:
    """Every chat in it; the file is only read. Raises UnreadableExport."""
    try:
        with closing(_open(path)) as connection:
            chats = connection.execute("SELECT id, title, created_at FROM chats ORDER BY created_at, id")
            for uid, title, created in chats.fetchall():
                _limit(connection)
                yield _chat(connection, str(uid), str(title or ""), _moment(created, now()))
    except (sqlite3.Error, ValueError) as error:
        if "no such table" in str(error):
            raise UnreadableExport(path, "this SQLite file has no chats of Ollama's app") from error
        raise UnreadableExport(path, f"SQLite cannot read it: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "query_only = ON"):
        connection.execute(f"PRAGMA {pragma}")
    _limit(connection)
    return connection


def _limit(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)


def _chat(connection: sqlite3.Connection, uid: str, title: str, created: datetime) -> SavedChat:
    messages: list[SavedMessage] = []
    for role, content, thinking, model, written in connection.execute(
        "SELECT role, content, thinking, model_name, created_at FROM messages WHERE chat_id = ? ORDER BY id",
        (uid,),
    ):
        if role not in ("user", "assistant") or not str(content or "").strip():
            continue
        parent = messages[-1].uid if messages else None
        messages.append(
            SavedMessage(
                uid=content_uid(parent, role, str(content)),
                parent=parent,
                role=role,
                content=str(content),
                thinking=str(thinking or ""),
                model=str(model) if model and role == "assistant" else None,
                created=_moment(written, created),
            )
        )
    return SavedChat(
        uid=uid,
        origin=ORIGIN,
        title=title,
        created=created,
        updated=messages[-1].created if messages else created,
        leaf=messages[-1].uid if messages else None,
        messages=tuple(messages),
    )


def _moment(written: Any, default: datetime) -> datetime:
    """Go's SQLite driver writes ``2025-08-01 10:00:00.123456789+02:00``; by hand it may be anything."""
    try:
        found = datetime.fromisoformat(str(written).replace(" UTC", "").strip())
    except ValueError:
        return default
    return found if found.tzinfo else found.replace(tzinfo=UTC)
