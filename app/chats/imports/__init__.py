"""Chats of other programs, read from what those export or keep.

| form | file |
|---|---|
| localq's own | the JSON of ``localq chats export`` |
| ChatGPT | the exported zip, or ``conversations.json`` in it |
| LM Studio | a ``.conversation.json``, or the folder ``conversations`` of them |
| Ollama's app | ``db.sqlite`` |
| Open WebUI | the exported JSON |
| messages | ``{"messages": [{"role": "user", "content": "..."}, ...]}``, alone or one a line (``.jsonl``) |

A file is recognised by what is in it. One chat that cannot be read stops no other. Texts are taken as they
are; what a chat has beside text (images, tool calls) is left out, with a note in its place where it was part
of a message.
"""

from __future__ import annotations

from app.chats.imports.read import Found, Unread, read_export
from app.chats.imports.taking import Taken, take_in

__all__ = ["Found", "Taken", "Unread", "read_export", "take_in"]
