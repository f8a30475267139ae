"""A chat as a file of its own, for its owner only; no file is written over."""

from __future__ import annotations

from pathlib import Path

from app.chats import Chats
from app.chats.export import file_stem, markdown_of, to_json
from app.chats.writing import write_new
from app.paths import expand


def export_chat(chats: Chats, chat_id: int, name: str, folder: Path) -> Path:
    """Markdown of the current branch, or, where ``name`` ends in ``.json``, JSON of all.

    Raises WrongUse where the file is there already, DiskFailed, and NoSuchChat.
    """
    chat = chats.get(chat_id)
    path = folder / expand(name or f"{file_stem(chat)}.md")
    data = to_json([chats.save(chat_id)]) if path.suffix == ".json" else markdown_of(chats, chat).encode()
    write_new(path, data)
    return path
