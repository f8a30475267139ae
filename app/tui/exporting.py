"""A chat as a file of its own, for its owner only; no file is written over."""

from __future__ import annotations

import os
from pathlib import Path

from app.chats import Chats
from app.chats.export import file_stem, to_json, to_markdown
from app.errors import WrongUse
from app.paths import expand


def export_chat(chats: Chats, chat_id: int, name: str, folder: Path) -> Path:
    """Markdown of the current branch, or, where ``name`` ends in ``.json``, JSON of all.

    Raises WrongUse where the file is there already or cannot be made; and NoSuchChat.
    """
    chat = chats.get(chat_id)
    path = folder / expand(name or f"{file_stem(chat)}.md")
    if path.suffix == ".json":
        data = to_json([chats.save(chat_id)])
    else:
        data = to_markdown(chat, chats.branch(chat_id), chats.tree(chat_id).branches()).encode()
    write_new(path, data)
    return path


def write_new(path: Path, data: bytes) -> None:
    """A new file. Raises WrongUse."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError:
        raise WrongUse(f"{path} exists already; choose another name") from None
    except (OSError, ValueError) as error:
        raise WrongUse(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None
