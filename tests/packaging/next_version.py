"""A localq of the next version: one that has another migration of the chats.

    python -m tests.packaging.next_version HOME [STATEMENT]

Opens the chats in HOME and prints how many messages there are and of how many the new table knows. With
STATEMENT it is killed before that one of the migration's statements, or before COMMIT for the number behind.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from pathlib import Path
from unittest.mock import patch

from app.chats import Chats
from app.chats.schema import MIGRATIONS, _statements

NEXT = """
CREATE TABLE length (message_id INTEGER PRIMARY KEY REFERENCES message (id) ON DELETE CASCADE, bytes INTEGER);
INSERT INTO length SELECT id, length(content) FROM message;
ALTER TABLE message ADD COLUMN starred INTEGER NOT NULL DEFAULT 0;
UPDATE message SET facts = json_set(facts, '$.moved', 1);
CREATE INDEX message_starred ON message (starred) WHERE starred;
"""
STATEMENTS = len(_statements(NEXT))


def main(home: Path, last: int | None) -> None:
    """Open, and be killed before statement ``last`` of the new migration."""

    def statements(script: str) -> list[str]:
        found = _statements(script)
        if script == NEXT and last is not None:
            found[last:last] = ["SELECT die()"]
        return found

    connect = sqlite3.connect

    def connected(*words: object, **named: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*words, **named)  # type: ignore[call-overload]
        connection.execute("PRAGMA cache_size = 10")  # so that pages are on the disk long before COMMIT
        connection.create_function("die", 0, lambda: os.kill(os.getpid(), signal.SIGKILL))
        return connection

    migrations = (*MIGRATIONS, NEXT)
    with (
        patch("app.chats.schema.MIGRATIONS", migrations),
        patch("app.chats.database.MIGRATIONS", migrations),
        patch("app.chats.schema._statements", statements),
        patch("sqlite3.connect", connected),
        Chats(home) as chats,
        chats._database.read() as connection,
    ):
        for table in ("message", "length"):
            print(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
