"""A program that writes turns into a chat until it is killed, and says each number when it is kept.

    python -m tests.app.chats_writer HOME

Every fourth answer is written in pieces, as one that streams is; every eighth chat is deleted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from app.chats import Chats


def main(home: Path) -> None:
    """Line by line on stdout: ``chat message text``, or ``deleted chat``, after the call has returned."""
    chats = Chats(home)
    number = 0
    while True:
        chat = chats.create(title=f"chat {number}")
        parent = None
        for turn in range(8):
            number += 1
            text = f"turn number{os.getpid()}x{number} " + "word " * (number % 50)
            message = chats.add(chat.id, "assistant" if turn % 2 else "user", text, parent_id=parent)
            if turn % 4 == 3:
                message = chats.update(message.id, state="writing", content=text + "more")
                message = chats.update(message.id, state="done", content=text + "more and more")
            parent = message.id
            print(chat.id, message.id, message.content, flush=True)
        if chat.id % 8 == 0:
            print("deleting", chat.id, flush=True)
            chats.delete([chat.id])
            print("deleted", chat.id, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
