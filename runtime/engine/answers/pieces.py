"""The parts of an answer, as they become certain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the person who asked."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text that the model wrote for itself."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """A tool call begins: its function is known. ``id`` is the model's own, where it wrote one."""

    name: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the arguments of the newest call: JSON text."""

    text: str


Piece: TypeAlias = Content | Reasoning | CallStart | CallArguments


def merged(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one kind joined, empty texts dropped."""
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if isinstance(piece, Content | Reasoning | CallArguments):
            if not piece.text:
                continue
            if type(last) is type(piece):
                joined[-1] = type(piece)(last.text + piece.text)
                continue
        joined.append(piece)
    return joined
