"""What can be done about a conversation that is longer than the context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from app.tui.fitting import ROOM, QuestionTooLong
from app.tui.host import Host, Wanted
from app.tui.preferences import Preferences
from runtime.errors import LocalqError, PromptTooLong
from runtime.units import format_bytes

STEP: Final = 1024


@dataclass(frozen=True)
class Way:
    """``apply`` gives the preferences to go on with; None = not to go on."""

    title: str
    apply: Callable[[Preferences], Preferences | None]


def ways_out(host: Host, wanted: Wanted | None, error: PromptTooLong) -> list[Way]:
    """A longer context where machine and model have one, to leave out the oldest turns, or nothing."""
    ways: list[Way] = []
    if wanted is not None and (longer := _longer(host, wanted, error)) is not None:
        tokens, more = longer
        ways.append(
            Way(
                f"Load the model with a context of {tokens:,} tokens ({format_bytes(more)} in all)",
                lambda chosen: msgspec.structs.replace(chosen, context=tokens),
            )
        )
    if not isinstance(error, QuestionTooLong):
        ways.append(
            Way(
                "Leave out the oldest messages in this chat, and mark them",
                lambda chosen: msgspec.structs.replace(chosen, drop_oldest=True),
            )
        )
    ways.append(Way("Nothing: I shorten it, or begin a new chat", lambda chosen: None))
    return ways


def _longer(host: Host, wanted: Wanted, error: PromptTooLong) -> tuple[int, int] | None:
    """Tokens, and the bytes that the model takes with them; None where neither model nor memory has them."""
    import dataclasses

    tokens = -(-(error.prompt_tokens + ROOM) // STEP) * STEP
    loaded = host.loaded
    trained = loaded.plan.trained_context if loaded is not None else 0
    if trained:
        tokens = min(tokens, trained)
    if tokens <= max(error.prompt_tokens, error.context_tokens):
        return None
    try:
        plan = host.plan(dataclasses.replace(wanted, context=tokens))
    except LocalqError:
        return None
    held = loaded.plan.total if loaded is not None else 0  # given back before the next is loaded
    return (tokens, plan.total) if plan.total <= plan.available + held else None
