"""A person's own conversations as texts to calibrate on, where they ask for it."""

from __future__ import annotations

from typing import Final

from app.chats.chats import Chats
from app.chats.conversation import conversation
from quant.calibration.text import CalibrationText

DOMAIN: Final = "chats"


def calibration_texts(chats: Chats) -> tuple[CalibrationText, ...]:
    """The current branch of every chat, up to its last answer, oldest first; chats without one are left out.

    They are named by their order: a certificate must not say what somebody talked about.
    """
    found = sorted(chats.list(), key=lambda chat: chat.id)
    texts: list[CalibrationText] = []
    for chat in found:
        turns = conversation(chats.branch(chat.id), chat.system or None)
        while turns and turns[-1]["role"] != "assistant":
            turns.pop()
        if turns:
            texts.append(CalibrationText(f"{DOMAIN}/{len(texts) + 1}", DOMAIN, messages=tuple(turns)))
    return tuple(texts)
