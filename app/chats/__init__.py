"""Chats on this machine's disk: every turn, every branch, in one SQLite file that only its owner may read.

``home/chats/chats.db`` is in WAL mode with ``synchronous=FULL``: when a method that changes something has
returned, the change is on the disk, and a process killed at any moment leaves the last state that a method
returned from. Several processes may have it open at once. What is deleted is overwritten (``secure_delete``),
its words leave the index and its pages the log before the method returns.

A chat is a tree: a message has a parent, and two answers to one question are two children of it. The chat's
``leaf`` says which branch is the current one.

Whatever comes from a model, a person or an imported file is data here: it is stored and returned as it is,
and made harmless where it is shown.
"""

from __future__ import annotations

from app.chats.chats import Chats
from app.chats.records import Attachment, Chat, Draft, Hit, Message, Prompt, Role, State
from app.chats.saved import Adopted, Archive, SavedChat, SavedMessage
from app.chats.tree import Tree

__all__ = [
    "Adopted",
    "Archive",
    "Attachment",
    "Chat",
    "Chats",
    "Draft",
    "Hit",
    "Message",
    "Prompt",
    "Role",
    "SavedChat",
    "SavedMessage",
    "State",
    "Tree",
]
