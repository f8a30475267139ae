"""What a model thinks aloud, told from what it says, while both come in pieces."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

MARKS: Final = (("<think>", "</think>"), ("<thinking>", "</thinking>"))


class Piece(NamedTuple):
    """Text of one kind."""

    kind: Literal["thought", "said"]
    text: str


class Splitter:
    """Splits an answer; its pieces may be cut anywhere.

    ``open_mark`` is the mark that the prompt ended in, where a template opens the thoughts itself. Thoughts
    stand at the beginning: a mark within what is said is text.
    """

    def __init__(self, prompt: str = "") -> None:
        opened = next((end for start, end in MARKS if prompt.rstrip().endswith(start)), None)
        self._end = opened
        self._state: Literal["before", "thought", "gap", "said"] = "thought" if opened else "before"
        self._held = ""

    def feed(self, text: str) -> list[Piece]:
        """What is decided of the text so far and was not yet returned."""
        self._held += text
        pieces: list[Piece] = []
        while self._step(pieces):
            pass
        return pieces

    def flush(self) -> list[Piece]:
        """The answer is over; the rest of it."""
        rest, self._held = self._held, ""
        if self._state == "gap" and not rest.strip():
            return []
        kind: Literal["thought", "said"] = "thought" if self._state == "thought" else "said"
        return [Piece(kind, rest)] if rest else []

    def _step(self, pieces: list[Piece]) -> bool:
        """One change of state; False if more text is needed."""
        match self._state:
            case "before":
                return self._begin()
            case "thought":
                return self._think(pieces)
            case "gap":
                self._held = self._held.lstrip("\n")
                if self._held:
                    self._state = "said"
                return bool(self._held)
            case "said":
                if self._held:
                    pieces.append(Piece("said", self._held))
                    self._held = ""
                return False

    def _begin(self) -> bool:
        text = self._held.lstrip()
        for start, end in MARKS:
            if text.startswith(start):
                self._held, self._end, self._state = text[len(start) :].lstrip("\n"), end, "thought"
                return True
        if any(start.startswith(text) for start, _ in MARKS):
            return False
        self._state = "said"
        return True

    def _think(self, pieces: list[Piece]) -> bool:
        assert self._end is not None
        thought, mark, rest = self._held.partition(self._end)
        if mark:
            if thought.strip():
                pieces.append(Piece("thought", thought.rstrip("\n")))
            self._held, self._state = rest, "gap"
            return True
        keep = next(
            (size for size in range(len(self._end) - 1, 0, -1) if self._held.endswith(self._end[:size])), 0
        )
        certain = self._held[: len(self._held) - keep]
        if certain:
            pieces.append(Piece("thought", certain))
        self._held = self._held[len(certain) :]
        return False
