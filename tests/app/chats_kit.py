"""What the tests of the chats share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from app.chats import Chats, Message

ROOT = Path(__file__).resolve().parents[2]


def talk(chats: Chats, *texts: str, chat_id: int | None = None) -> list[Message]:
    """A chat in which the person and the model say ``texts`` by turns."""
    chat_id = chats.create(model="tiny").id if chat_id is None else chat_id
    said: list[Message] = []
    for number, text in enumerate(texts):
        parent_id = said[-1].id if said else None
        said.append(chats.add(chat_id, "assistant" if number % 2 else "user", text, parent_id=parent_id))
    return said


def files_hold(home: Path, words: bytes) -> bool:
    """Whether the bytes stand anywhere in the files of the chats."""
    return any(words in path.read_bytes() for path in (home / "chats").iterdir())


def python(module: str, *words: str) -> subprocess.Popen[bytes]:
    """A module of the tests as a process of its own, that can be spoken to."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=os.environ,
    )
