"""Branches: pure functions over messages and their parents."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from app.chats.records import Message

Key = TypeVar("Key", bound=Hashable)


class Tree:
    """The messages of a chat, by parent and child. Children are in the order in which they were written."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self.by_id: dict[int, Message] = {message.id: message for message in messages}
        self._children: dict[int | None, list[int]] = {}
        for message in self.by_id.values():
            self._children.setdefault(message.parent_id, []).append(message.id)

    def children(self, message_id: int | None) -> Sequence[Message]:
        """Messages after this one; with None those that begin the chat."""
        return [self.by_id[child] for child in self._children.get(message_id, ())]

    def siblings(self, message_id: int) -> Sequence[Message]:
        """All messages in the same place, this one included."""
        return self.children(self.by_id[message_id].parent_id)

    def path(self, leaf_id: int | None) -> list[Message]:
        """From the first message to this one."""
        path: list[Message] = []
        while leaf_id is not None:
            message = self.by_id[leaf_id]
            path.append(message)
            leaf_id = message.parent_id
        return path[::-1]

    def leaf(self, message_id: int) -> int:
        """The end of the branch through this message: always the newest child."""
        while self._children.get(message_id):
            message_id = self._children[message_id][-1]
        return message_id

    def branches(self) -> int:
        """How many ends there are."""
        return sum(1 for message_id in self.by_id if not self._children.get(message_id))


def ordered(parents: Mapping[Key, Key | None]) -> list[Key]:
    """All keys, parents before their children, else as given.

    A parent that is not a key counts as none; so does the parent of the first key of a circle.
    """
    placed: set[Key] = set()
    order: list[Key] = []
    for key in parents:
        chain: list[Key] = []
        walked: set[Key] = set()
        at: Key | None = key
        while at is not None and at in parents and at not in placed and at not in walked:
            chain.append(at)
            walked.add(at)
            at = parents[at]
        for link in reversed(chain):
            placed.add(link)
            order.append(link)
    return order
