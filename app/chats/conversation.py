"""A branch as a model gets it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from app.chats.records import Attachment, Message


def conversation(path: Iterable[Message], system: str | None = None) -> list[dict[str, str]]:
    """Messages of OpenAI's shape, user and assistant by turns, the user first.

    An answer that failed without a word is left out, and neighbours of the same role are one message: chat
    templates refuse them. ``system`` None leaves the system prompt to the template; an empty one keeps
    it out.
    """
    turns: list[dict[str, str]] = []
    for message in path:
        content = content_of(message)
        if not content.strip() or (not turns and message.role != "user"):
            continue
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"] += f"\n\n{content}"
        else:
            turns.append({"role": message.role, "content": content})
    head = [] if system is None else [{"role": "system", "content": system}]
    return [*head, *turns]


def content_of(message: Message) -> str:
    """The text of a message with its attachments below it."""
    parts = [message.content] if message.content.strip() else []
    return "\n\n".join([*parts, *map(attached, message.attachments)])


def attached(attachment: Attachment) -> str:
    """An attachment as the model reads it: its name, and its text in a fence that it cannot close."""
    runs = re.findall(r"^`{3,}", attachment.text, re.MULTILINE)
    fence = "`" * max([3, *(len(run) + 1 for run in runs)])
    end = "" if attachment.text.endswith("\n") else "\n"
    return f"{attachment.name}:\n{fence}\n{attachment.text}{end}{fence}"
