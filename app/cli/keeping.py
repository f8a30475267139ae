"""Keeping the conversation of a REPL among the chats, where the setting ``chats`` asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from app.errors import AppError

if TYPE_CHECKING:
    from app.chats import Chat, Chats
    from app.cli.answer import Answer


class Keeper:
    """One conversation after the other. ``home`` None keeps none.

    ``complain`` hears once that the disk refuses them: the chat goes on all the same.
    """

    def __init__(
        self,
        home: Path | None = None,
        model: str = "",
        complain: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._home = home
        self._model = model
        self._complain = complain
        self._chats: Chats | None = None
        self._chat: Chat | None = None
        self._end: int | None = None
        self._question: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._chats is not None:
            self._chats.close()

    def forget(self) -> None:
        """The next question begins another conversation; the one before stays where it is kept."""
        self._chat = self._end = self._question = None

    def asked(self, question: str, system: str | None) -> None:
        """Keeps a question, behind the last answer."""
        self._try(lambda chats: self._keep_question(chats, question, system))

    def answered(self, answer: Answer) -> None:
        """Keeps the answer to the last question."""
        self._try(lambda chats: self._keep_answer(chats, answer))

    def _keep_question(self, chats: Chats, question: str, system: str | None) -> None:
        if self._chat is None:
            self._chat = chats.create(model=self._model, system=system)
        self._question = chats.add(self._chat.id, "user", question, parent_id=self._end).id

    def _keep_answer(self, chats: Chats, answer: Answer) -> None:
        if self._chat is not None and self._question is not None:
            self._end = chats.add(
                self._chat.id,
                "assistant",
                answer.text,
                parent_id=self._question,
                model=self._model,
                state=STATES[answer.finished.reason],
                facts=facts_of(answer),
            ).id

    def _try(self, action: Callable[[Chats], None]) -> None:
        if self._home is None:
            return
        from app.chats import Chats

        try:
            if self._chats is None:
                self._chats = Chats(self._home)
            action(self._chats)
        except AppError as error:
            self._complain(f"this conversation is not kept: {error}")
            self._home = None


STATES: dict[str, Any] = {"stop": "done", "length": "length", "cancelled": "stopped"}
"""By the reason that an answer ended for."""


def facts_of(answer: Answer) -> dict[str, Any]:
    """What is kept of an answer's making."""
    import msgspec

    finished = answer.finished
    return {
        "usage": msgspec.to_builtins(finished.usage),
        "timings": msgspec.to_builtins(finished.timings),
    }
