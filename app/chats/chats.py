"""The chats of this person, as the rest of localq sees them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from app.chats import adopting, messages, search
from app.chats.database import WAIT_SECONDS, Database
from app.chats.records import (
    Attachment,
    Chat,
    Draft,
    Hit,
    Message,
    Prompt,
    Role,
    State,
    now,
    of_stamp,
    one_line,
    stamp,
    storable,
    title_of,
)
from app.chats.saved import Adopted, SavedChat
from app.chats.tree import Tree
from app.errors import NoSuchChat

FOLDER: Final = "chats"
FILE: Final = "chats.db"
_FORGET: Final = "forget"
"""The key of the state that says: something was deleted whose words may still be in the index or the log."""
_COLUMNS: Final = (
    "chat.id, title, folder, pinned, model, system, settings, leaf_id, created, updated, origin, "
    "(SELECT count(*) FROM message WHERE chat_id = chat.id)"
)
_CHANGEABLE: Final = frozenset({"title", "folder", "pinned", "model", "system", "settings"})


class Chats:
    """See the package. Any thread may call any method; one waits for another where both write.

    Every error is a :class:`app.errors.ChatsError` or a StoreError of the disk, and leaves the chats as they
    were. ``home`` None keeps everything in memory, and nothing on the disk.
    """

    def __init__(self, home: Path | None, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self.path = None if home is None else home / FOLDER / FILE
        self._database = Database(self.path, wait_seconds=wait_seconds)
        if self.state(_FORGET):
            self._forget()

    @staticmethod
    def exist(home: Path) -> bool:
        """Whether anything was ever kept in ``home``; makes no file."""
        return (home / FOLDER / FILE).exists()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Nothing can be asked any more."""
        self._database.close()

    # -- chats ----------------------------------------------------------------------------------------------

    def create(
        self,
        *,
        title: str = "",
        folder: str = "",
        model: str | None = None,
        system: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Chat:
        """An empty chat. Its first message gives it a title where it has none."""
        moment = stamp(now())
        with self._database.write() as connection:
            title, folder = one_line(title), one_line(folder)
            cursor = connection.execute(
                "INSERT INTO chat (uid, title, folder, model, system, settings, created, updated) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (os.urandom(16).hex(), title, folder, model, system, _json(settings or {}), moment, moment),
            )
            chat_id = _inserted(cursor)
            search.index_title(connection, chat_id, title)
            return self._get(connection, chat_id)

    def get(self, chat_id: int) -> Chat:
        """Raises NoSuchChat."""
        with self._database.read() as connection:
            return self._get(connection, chat_id)

    def list(self, *, folder: str | None = None, limit: int = -1, offset: int = 0) -> Sequence[Chat]:
        """Pinned ones first, then by their last change; ``folder`` None is all folders."""
        where = "" if folder is None else "WHERE folder = :folder"
        with self._database.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM chat {where} ORDER BY pinned DESC, updated DESC, chat.id DESC "
                "LIMIT :limit OFFSET :offset",
                {"folder": folder, "limit": limit, "offset": offset},
            )
            return [_chat(row) for row in rows]

    def count(self) -> int:
        """How many chats there are."""
        with self._database.read() as connection:
            return int(connection.execute("SELECT count(*) FROM chat").fetchone()[0])

    def folders(self) -> Sequence[str]:
        """Those that chats are in, by name."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT DISTINCT folder FROM chat WHERE folder != '' ORDER BY folder")
            return [row[0] for row in rows]

    def change(self, chat_id: int, **changes: Any) -> Chat:
        """Set title, folder, pinned, model, system or settings. Raises NoSuchChat."""
        if unknown := changes.keys() - _CHANGEABLE:
            raise TypeError(f"a chat has no {', '.join(unknown)}")
        with self._database.write() as connection:
            before = self._get(connection, chat_id)
            if "title" in changes:
                search.index_title(connection, chat_id, one_line(changes["title"]), before=before.title)
            for key, value in changes.items():
                stored = one_line(value) if key in ("title", "folder") else _stored(value)
                connection.execute(f"UPDATE chat SET {key} = ? WHERE id = ?", (stored, chat_id))
            return self._get(connection, chat_id)

    def delete(self, chat_ids: Iterable[int]) -> int:
        """Deletes chats for good; returns how many messages went. Raises NoSuchChat before it deletes any."""
        with self._database.write() as connection:
            chats = [self._get(connection, chat_id) for chat_id in dict.fromkeys(chat_ids)]
            for chat in chats:
                search.index_title(connection, chat.id, "", before=chat.title)
                for message in messages.of_chat(connection, chat.id):
                    search.unindex(connection, message)
                connection.execute("DELETE FROM chat WHERE id = ?", (chat.id,))
                connection.execute("DELETE FROM draft WHERE chat_id = ?", (chat.id,))
            _remember(connection, _FORGET, "1")
        self._forget()
        return sum(chat.messages for chat in chats)

    # -- messages -------------------------------------------------------------------------------------------

    def tree(self, chat_id: int) -> Tree:
        """All branches of a chat. Raises NoSuchChat."""
        with self._database.read() as connection:
            self._get(connection, chat_id)
            return Tree(messages.of_chat(connection, chat_id))

    def branch(self, chat_id: int) -> Sequence[Message]:
        """The current branch, from its first message. Raises NoSuchChat."""
        with self._database.read() as connection:
            return messages.path(connection, self._get(connection, chat_id).leaf_id)

    def message(self, message_id: int) -> Message:
        """Raises NoSuchChat."""
        with self._database.read() as connection:
            return messages.get(connection, message_id)

    def add(
        self,
        chat_id: int,
        role: Role,
        content: str,
        *,
        parent_id: int | None,
        thinking: str = "",
        model: str | None = None,
        state: State = "done",
        attachments: Sequence[Attachment] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> Message:
        """A message after ``parent_id``, None = a beginning; it becomes the end of the current branch.

        Raises NoSuchChat for a chat or a parent that is not there, or is not of this chat.
        """
        with self._database.write() as connection:
            chat = self._get(connection, chat_id)
            if parent_id is not None and messages.get(connection, parent_id).chat_id != chat_id:
                raise NoSuchChat(f"message {parent_id} is not in chat {chat_id}")
            message = messages.insert(
                connection,
                Message(
                    id=0,
                    chat_id=chat_id,
                    parent_id=parent_id,
                    role=role,
                    content=content,
                    thinking=thinking,
                    model=model,
                    state=state,
                    created=now(),
                    attachments=tuple(attachments),
                    facts=dict(facts or {}),
                ),
                uid=os.urandom(16).hex(),
            )
            connection.execute(
                "UPDATE chat SET leaf_id = ?, updated = ?, model = coalesce(?, model) WHERE id = ?",
                (message.id, stamp(message.created), model, chat_id),
            )
            if not chat.title and (title := title_of(message)):
                connection.execute("UPDATE chat SET title = ? WHERE id = ?", (title, chat_id))
                search.index_title(connection, chat_id, title)
            return message

    def update(self, message_id: int, **changes: Any) -> Message:
        """Set content, thinking, state, model or facts of a message. Raises NoSuchChat.

        For an answer that grows; what a person changes becomes a branch (:meth:`add`).
        """
        with self._database.write() as connection:
            message = messages.update(connection, message_id, changes)
            connection.execute("UPDATE chat SET updated = ? WHERE id = ?", (stamp(now()), message.chat_id))
            return message

    def select(self, message_id: int) -> Chat:
        """Makes the branch through this message the current one. Raises NoSuchChat."""
        with self._database.write() as connection:
            chat_id = messages.get(connection, message_id).chat_id
            leaf_id = Tree(messages.of_chat(connection, chat_id)).leaf(message_id)
            connection.execute("UPDATE chat SET leaf_id = ? WHERE id = ?", (leaf_id, chat_id))
            return self._get(connection, chat_id)

    def delete_branch(self, message_id: int) -> int:
        """Deletes a message and all after it for good; returns how many went. Raises NoSuchChat.

        If the current branch goes, the newest beside it becomes the current one.
        """
        with self._database.write() as connection:
            message = messages.get(connection, message_id)
            chat = self._get(connection, message.chat_id)
            tree = Tree(messages.of_chat(connection, chat.id))
            gone = messages.below(tree, message_id)
            for doomed in gone:
                search.unindex(connection, doomed)
            connection.execute("DELETE FROM message WHERE id = ?", (message_id,))
            if chat.leaf_id in {doomed.id for doomed in gone}:
                beside = [other.id for other in tree.siblings(message_id) if other.id != message_id]
                leaf_id = tree.leaf(beside[-1]) if beside else message.parent_id
                connection.execute("UPDATE chat SET leaf_id = ? WHERE id = ?", (leaf_id, chat.id))
            _remember(connection, _FORGET, "1")
        self._forget()
        return len(gone)

    # -- finding and carrying -------------------------------------------------------------------------------

    def search(self, typed: str, *, limit: int = 50) -> Sequence[Hit]:
        """Where the words are, titles first, then the best of the newest messages; none for no words.

        All words must be in the same message; ``"a phrase"`` and ``-without`` work, and the last word may be
        unfinished.
        """
        with self._database.read() as connection:
            return search.find(connection, typed, limit)

    def asked(self, limit: int = 500) -> Sequence[str]:
        """What the person wrote last, newest first, each text once."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT content FROM message WHERE role = 'user' AND content != '' ORDER BY id DESC LIMIT ?",
                (limit,),
            )
            return list(dict.fromkeys(row[0] for row in rows))

    def makings(self, limit: int = 500) -> Sequence[tuple[str, dict[str, Any]]]:
        """Model and facts of the newest finished answers."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT model, facts FROM message WHERE role = 'assistant' AND model IS NOT NULL "
                "AND facts != '{}' ORDER BY id DESC LIMIT ?",
                (limit,),
            )
            return [(model, msgspec.json.decode(facts)) for model, facts in rows]

    def save(self, chat_id: int) -> SavedChat:
        """The chat with all of its branches, to be carried elsewhere. Raises NoSuchChat."""
        with self._database.read() as connection:
            return adopting.save(connection, self._get(connection, chat_id))

    def adopt(self, saved: SavedChat) -> Adopted:
        """Takes in a saved chat; of one that is here already what is new in it."""
        with self._database.write() as connection:
            return adopting.adopt(connection, saved)

    # -- what is not sent yet -------------------------------------------------------------------------------

    def draft(self, chat_id: int | None) -> Draft:
        """What was typed for this chat, None = for a new one, and not sent."""
        with self._database.read() as connection:
            row = connection.execute("SELECT draft FROM draft WHERE chat_id = ?", (chat_id or 0,)).fetchone()
        return msgspec.json.decode(row[0], type=Draft) if row else Draft()

    def keep_draft(self, chat_id: int | None, draft: Draft) -> None:
        """An empty draft is forgotten."""
        with self._database.write() as connection:
            if draft.empty:
                connection.execute("DELETE FROM draft WHERE chat_id = ?", (chat_id or 0,))
            else:
                connection.execute(
                    "INSERT INTO draft VALUES (?, ?) ON CONFLICT DO UPDATE SET draft = excluded.draft",
                    (chat_id or 0, _json(draft)),
                )

    def prompts(self, kind: str) -> Sequence[Prompt]:
        """Kept texts of a kind, by name."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT * FROM prompt WHERE kind = ? ORDER BY name", (kind,))
            return [Prompt(kind=row[0], name=row[1], text=row[2]) for row in rows]

    def keep_prompt(self, prompt: Prompt) -> None:
        """Keeps a text under its name, in the place of the one before; an empty text is forgotten."""
        with self._database.write() as connection:
            if prompt.text.strip():
                connection.execute(
                    "INSERT INTO prompt VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET text = excluded.text",
                    (prompt.kind, prompt.name, prompt.text),
                )
            else:
                connection.execute(
                    "DELETE FROM prompt WHERE kind = ? AND name = ?", (prompt.kind, prompt.name)
                )

    def state(self, key: str) -> str:
        """What :meth:`keep_state` was given last; empty where it was given nothing."""
        with self._database.read() as connection:
            row = connection.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        return row[0] if row else ""

    def keep_state(self, key: str, value: str) -> None:
        """Remembers where the person was: the open chat, a place in it."""
        with self._database.write() as connection:
            _remember(connection, key, value)

    def changes(self) -> int:
        """A number that differs after another process has changed something."""
        return self._database.changes()

    # -- within ---------------------------------------------------------------------------------------------

    def _get(self, connection: sqlite3.Connection, chat_id: int) -> Chat:
        row = connection.execute(f"SELECT {_COLUMNS} FROM chat WHERE id = ?", (chat_id,)).fetchone()
        if row is None:
            raise NoSuchChat(f"there is no chat {chat_id}")
        return _chat(row)

    def _forget(self) -> None:
        """Until it has worked the state says so, and the next process to open the chats tries again."""
        if self._database.forget():
            self.keep_state(_FORGET, "")


def _chat(row: tuple[Any, ...]) -> Chat:
    return Chat(
        id=row[0],
        title=row[1],
        folder=row[2],
        pinned=bool(row[3]),
        model=row[4],
        system=row[5],
        settings=msgspec.json.decode(row[6]),
        leaf_id=row[7],
        created=of_stamp(row[8]),
        updated=of_stamp(row[9]),
        origin=row[10],
        messages=row[11],
    )


def _stored(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    return _json(value) if isinstance(value, Mapping) else value


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _remember(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute(
        "INSERT INTO state VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
    )


def _inserted(cursor: sqlite3.Cursor) -> int:
    assert cursor.lastrowid is not None
    return cursor.lastrowid
