"""From the bytes of tokens to text that may be shown: whole code points, and nothing of a stop string."""

from __future__ import annotations

import codecs


class TextStream:
    """Joins token bytes into text.

    A code point that is not whole yet is held back; so is text that may be the beginning of a stop string.
    Bytes that are not UTF-8 become U+FFFD. ``stop_text`` is the stop string that was found: the text before
    it has been released, the rest is dropped.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stop = stop
        self._held = ""
        self.stop_text: str | None = None

    def push(self, piece: bytes) -> str:
        """Take the bytes of one token; give the text that is now certain."""
        return self._release(self._decoder.decode(piece))

    def finish(self) -> str:
        """Give what is still held back: no more tokens will come."""
        text = self._release(self._decoder.decode(b"", final=True))
        if self.stop_text is None:
            text, self._held = text + self._held, ""
        return text

    def _release(self, new: str) -> str:
        if self.stop_text is not None:
            return ""
        if not self._stop:
            return new
        text = self._held + new
        found = [(at, stop) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            at, self.stop_text = min(found, key=lambda hit: hit[0])
            self._held = ""
            return text[:at]
        keep = max(beginning_length(text, stop) for stop in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def beginning_length(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that is a proper beginning of ``stop``."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
