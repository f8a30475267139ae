"""A conversation within the context: all of it, or, where the person chose that, without its oldest turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.chats import Message
from app.chats.conversation import conversation
from app.tui.host import Loaded
from app.tui.preferences import Preferences
from runtime.engine.messages import Prompt
from runtime.errors import PromptTooLong

ROOM = 512
"""Tokens that stay free for the answer, or an eighth of the context where that is less."""


class QuestionTooLong(PromptTooLong):
    """Not even the last question fits: to leave out others does not help."""


@dataclass(frozen=True)
class Fitted:
    """What the model gets. ``dropped`` of the oldest messages are left out."""

    prompt: Prompt
    tokens: int
    dropped: int = 0


def fit(loaded: Loaded, path: Sequence[Message], system: str | None, preferences: Preferences) -> Fitted:
    """The prompt for the last message of ``path``.

    Raises PromptTooLong where it is longer than the context, QuestionTooLong where the question alone is; and
    what ``render`` and ``tokenize`` raise.
    """
    context = loaded.context_tokens
    whole = _render(loaded, path, system, preferences)
    if whole.tokens < context - (_room(context, preferences) if preferences.drop_oldest else 0):
        return whole
    starts = [at for at, message in enumerate(path) if message.role == "user"]
    alone = _render(loaded, path[starts[-1] :], system, preferences, dropped=starts[-1]) if starts else whole
    if alone.tokens >= context:
        raise QuestionTooLong(
            f"the question alone has {alone.tokens:,} tokens, the context holds {context:,}",
            prompt_tokens=alone.tokens,
            context_tokens=context,
        )
    if not preferences.drop_oldest:
        raise PromptTooLong(
            f"the conversation has {whole.tokens:,} tokens, the context holds {context:,}",
            prompt_tokens=whole.tokens,
            context_tokens=context,
        )
    low, high = 1, len(starts) - 1
    best: Fitted | None = None
    while low <= high:  # the fewest turns to leave out; each is rendered, for a template may do anything
        middle = (low + high) // 2
        tried = _render(loaded, path[starts[middle] :], system, preferences, dropped=starts[middle])
        if tried.tokens < context - _room(context, preferences):
            best, high = tried, middle - 1
        else:
            low = middle + 1
    return best or alone


def _render(
    loaded: Loaded,
    path: Sequence[Message],
    system: str | None,
    preferences: Preferences,
    dropped: int = 0,
) -> Fitted:
    variables: dict[str, Any] = (
        {} if preferences.thinking is None else {"enable_thinking": preferences.thinking}
    )
    prompt = loaded.engine.render(conversation(path, system), variables=variables)
    return Fitted(prompt, len(loaded.engine.tokenize(prompt)), dropped)


def _room(context: int, preferences: Preferences) -> int:
    return min(preferences.max_tokens or ROOM, max(1, context // 8), ROOM)
