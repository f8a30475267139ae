"""The open chat. What changes it returns when it is on the disk; any thread, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.chats import Attachment, Chat, Chats, Message, Tree
from app.tui.preferences import Preferences


class Session:
    """A chat of ``chats``, or one that begins with its first question.

    ``model`` and ``system`` are those of a chat that has not begun; ``preferences`` of either.
    """

    def __init__(self, chats: Chats) -> None:
        self.chats = chats
        self.chat: Chat | None = None
        self.tree = Tree(())
        self.path: list[Message] = []
        self.model: str | None = None
        self.system: str | None = None
        self.preferences = Preferences()

    @property
    def chat_id(self) -> int | None:
        return None if self.chat is None else self.chat.id

    @property
    def title(self) -> str:
        return self.chat.title if self.chat is not None else ""

    def begin(self) -> None:
        """A new chat, with the model, the system prompt and the preferences of the one before."""
        self.chat, self.tree, self.path = None, Tree(()), []

    def open(self, chat_id: int) -> None:
        """Another chat. Raises NoSuchChat, and this one stays."""
        chat = self.chats.get(chat_id)
        self._take(chat)
        self.model, self.system = chat.model, chat.system
        self.preferences = Preferences.of(chat.settings)

    def reload(self) -> None:
        """What the disk says of this chat now. Raises NoSuchChat."""
        if self.chat is not None:
            self._take(self.chats.get(self.chat.id))

    def place(self, message: Message) -> tuple[int, int]:
        """Which of how many in the same place of the chat, from 1."""
        beside = [other.id for other in self.tree.siblings(message.id)]
        return beside.index(message.id) + 1, len(beside)

    # -- changes --------------------------------------------------------------------------------------------

    def ask(self, text: str, attachments: Sequence[Attachment] = ()) -> Message:
        """A question after the last message."""
        return self._ask(text, self.path[-1].id if self.path else None, attachments)

    def edit(self, message_id: int, text: str, attachments: Sequence[Attachment] = ()) -> Message:
        """Another question in the place of this one: a branch."""
        return self._ask(text, self.tree.by_id[message_id].parent_id, attachments)

    def answer(self, question_id: int, model: str) -> Message:
        """An empty answer to a question, to be written."""
        assert self.chat is not None
        message = self.chats.add(
            self.chat.id, "assistant", "", parent_id=question_id, model=model, state="writing"
        )
        self.reload()
        return message

    def question_of(self, message_id: int) -> Message | None:
        """The question that a message is or answers."""
        message: Message | None = self.tree.by_id[message_id]
        while message is not None and message.role != "user":
            message = None if message.parent_id is None else self.tree.by_id[message.parent_id]
        return message

    def beside(self, message_id: int, step: int) -> Message | None:
        """The next message in the same place; None at the end."""
        siblings = self.tree.siblings(message_id)
        at = [other.id for other in siblings].index(message_id) + step
        return siblings[at] if 0 <= at < len(siblings) else None

    def select(self, message_id: int) -> None:
        """The branch through a message becomes the current one."""
        self.chats.select(message_id)
        self.reload()

    def delete(self, message_id: int) -> int:
        """A message and all after it, for good; how many went."""
        gone = self.chats.delete_branch(message_id)
        self.reload()
        return gone

    def change(self, **changes: Any) -> None:
        """Title, folder, pinned of the chat, if it has begun."""
        if self.chat is not None:
            self.chat = self.chats.change(self.chat.id, **changes)

    def choose(
        self, *, model: str | None = None, system: str | None = None, preferences: Preferences | None = None
    ) -> None:
        """What the next answers are made with; an empty ``system`` keeps the template's own out."""
        changes: dict[str, Any] = {}
        if model is not None:
            self.model = changes["model"] = model
        if system is not None:
            self.system = changes["system"] = system
        if preferences is not None:
            self.preferences = preferences
            changes["settings"] = preferences.stored()
        if changes and self.chat is not None:
            self.chat = self.chats.change(self.chat.id, **changes)

    def default_system(self) -> None:
        """The system prompt is the model's again."""
        self.system = None
        if self.chat is not None:
            self.chat = self.chats.change(self.chat.id, system=None)

    def _ask(self, text: str, parent_id: int | None, attachments: Sequence[Attachment]) -> Message:
        if self.chat is None:
            self.chat = self.chats.create(
                model=self.model, system=self.system, settings=self.preferences.stored()
            )
        message = self.chats.add(self.chat.id, "user", text, parent_id=parent_id, attachments=attachments)
        self.reload()
        return message

    def _take(self, chat: Chat) -> None:
        tree = self.chats.tree(chat.id)
        self.chat, self.tree, self.path = chat, tree, tree.path(chat.leaf_id)
