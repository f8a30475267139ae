"""A streaming parser as a generator: it reads like a recursive descent, and waits where the text is not there
yet.

    class Shouting(Parser):
        def parse(self):
            while (yield from self.until(("!",), self.say)) is not None:
                self.say("!!!")

A family's grammar is ``parse``, which yields whenever it needs more text. Text that may be the beginning of a
marker is held back, nothing else is. What is no valid call after all becomes content: nothing is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeAlias

from runtime.engine.answers.pieces import CallArguments, CallStart, Content, Piece, Reasoning, merged
from runtime.engine.text import beginning_length

Steps: TypeAlias = Generator[None, None, Any]
SPACE = re.compile(r"\s*")
SCALAR_END = re.compile(r"[\s,\]}]")
MAX_NESTING = 256


class Malformed(Exception):
    """What began like a tool call is none, or broke off before its function was known."""


class Parser:
    """Takes the text of one answer and gives its pieces.

    ``tools`` are the schemas of the functions that may be called, by name; without any, nothing is read as a
    call. ``thinking``: the prompt has opened the reasoning already.
    """

    shown: tuple[str, ...] = ()
    """Control tokens that have to be spelled out in the text."""
    thoughts: tuple[str, str] = ("<think>", "</think>")
    """Markers around reasoning at the beginning of an answer."""

    def __init__(self, tools: dict[str, Any], *, thinking: bool = False) -> None:
        self.tools = tools
        self._thinking = thinking
        self._text = ""
        self._closed = False
        self._pieces: list[Piece] = []
        self._taken: list[str] | None = None
        """What has been taken since a call seemed to begin."""
        self._started = False
        self._steps = self._run()
        next(self._steps)

    def push(self, text: str) -> list[Piece]:
        """Take more text; give what has become certain."""
        self._text += text
        return self._advance()

    def finish(self) -> list[Piece]:
        """No more text will come: give the rest."""
        self._closed = True
        return self._advance()

    def parse(self) -> Steps:
        """The grammar of a family, behind the reasoning."""
        yield from self.until((), self.say)

    # -- for grammars ---------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Content."""
        self._pieces.append(Content(text))

    def think(self, text: str) -> None:
        """Reasoning."""
        self._pieces.append(Reasoning(text))

    def start_call(self, name: str, identifier: str | None = None) -> None:
        """The function of a call is known. Raises Malformed for one that was not offered."""
        if name not in self.tools:
            raise Malformed(f"there is no tool {name!r}")
        self._started = True
        self._pieces.append(CallStart(name, identifier))

    def argue(self, text: str) -> None:
        """More arguments of the call that was started."""
        self._pieces.append(CallArguments(text))

    def until(self, markers: Sequence[str], emit: Callable[[str], None]) -> Steps:
        """Take and emit the text before the first marker, and take that; None at the end of the answer."""
        while True:
            found = [(at, marker) for marker in markers if (at := self._text.find(marker)) >= 0]
            if found:
                at, marker = min(found, key=lambda hit: (hit[0], -len(hit[1])))
                if at + len(marker) < len(self._text) or self._closed or not _longer(marker, markers):
                    emit(self._take(at))
                    self._take(len(marker))
                    return marker
                emit(self._take(at))
            else:
                kept = max((beginning_length(self._text, marker) for marker in markers), default=0)
                emit(self._take(len(self._text) - (0 if self._closed else kept)))
                if self._closed:
                    return None
            yield

    def text_until(self, markers: Sequence[str]) -> Steps:
        """The text before the first of the markers, which is taken. Raises Malformed at the end."""
        parts: list[str] = []
        if (yield from self.until(markers, parts.append)) is None:
            raise Malformed("the answer ends inside a call")
        return "".join(parts)

    def peek(self, count: int) -> Steps:
        """The next ``count`` characters, or those that are left at the end of the answer; they stay."""
        while len(self._text) < count and not self._closed:
            yield
        return self._text[:count]

    def take_one(self) -> str:
        """Take the next character, which :meth:`peek` has shown."""
        return self._take(1)

    def unread(self, text: str) -> None:
        """Give back what was taken last."""
        self._text = text + self._text
        if self._taken is not None:
            self._taken = ["".join(self._taken).removesuffix(text)]

    def space(self) -> Steps:
        """Take white space."""
        while True:
            self._take(self._space_length())
            if self._text or self._closed:
                return
            yield

    def starts_with(self, word: str) -> Steps:
        """Whether ``word`` comes next; it is taken if so."""
        while len(self._text) < len(word) and word.startswith(self._text) and not self._closed:
            yield
        if not self._text.startswith(word):
            return False
        self._take(len(word))
        return True

    def json_value(self, emit: Callable[[str], None]) -> Steps:
        """Take the text of one JSON value and emit it as it comes. Raises Malformed where it is none."""
        yield from self.space()
        first = yield from self.peek(1)
        if first not in ("{", "[", '"'):
            while not (end := SCALAR_END.search(self._text)) and not self._closed:
                yield
            text = self._take(end.start() if end else len(self._text))
            _loads(text)
            emit(text)
            return
        depth, in_string, escaped, at = 0, False, False, 0
        while True:
            while at < len(self._text):
                char = self._text[at]
                at += 1
                if in_string:
                    in_string = escaped or char != '"'
                    escaped = char == "\\" and not escaped
                elif char == '"':
                    in_string = True
                elif char in "{[":
                    depth += 1
                    if depth > MAX_NESTING:
                        raise Malformed("arguments nest too deeply")
                elif char in "}]":
                    depth -= 1
                if depth == 0 and not in_string:
                    emit(self._take(at))
                    return
            emit(self._take(at))
            at = 0
            if self._closed:
                raise Malformed("the answer ends inside a JSON value")
            yield

    def json_text(self) -> Steps:
        """One JSON value, read. Raises Malformed."""
        parts: list[str] = []
        yield from self.json_value(parts.append)
        return _loads("".join(parts))

    def json_call(self) -> Steps:
        """One call as an object with ``name`` and ``arguments`` (or ``parameters``), in any order."""
        yield from self.space()
        if not (yield from self.starts_with("{")):
            raise Malformed("no object")
        name: str | None = None
        identifier: str | None = None
        pending: str | None = None
        argued = False
        while True:
            yield from self.space()
            if (yield from self.starts_with("}")):
                break
            yield from self.starts_with(",")
            key = yield from self.json_text()
            yield from self.space()
            if not (yield from self.starts_with(":")):
                raise Malformed("no colon behind a key")
            yield from self.space()
            if key in ("name", "function") and name is None:
                name = yield from self.json_text()
                if not isinstance(name, str):
                    raise Malformed("a name that is no text")
            elif key == "id":
                identifier = yield from self.json_text()
            elif key in ("arguments", "parameters"):
                quoted = (yield from self.peek(1)) == '"'
                if name is None or quoted:
                    value = yield from self.json_text()
                    pending = value if quoted and isinstance(value, str) else _dumps(value)
                else:
                    self.start_call(name, identifier if isinstance(identifier, str) else None)
                    argued = True
                    yield from self.json_value(self.argue)
            else:
                yield from self.json_text()
        if name is None:
            raise Malformed("no name")
        if not argued:
            self.start_call(name, identifier if isinstance(identifier, str) else None)
            self.argue(pending or "{}")

    def call(self, opening: str, steps: Steps) -> Steps:
        """Read a call by ``steps`` behind ``opening``, which has been taken; True where it was one.

        Text that turns out to be none becomes content, with its opening.
        """
        self._taken, self._started = [opening], False
        try:
            yield from steps
        except Malformed:
            if not self._started:
                self.say("".join(self._taken))
                return False
            # A call that broke off: what came of its arguments stands.
        finally:
            self._taken = None
        return True

    # -- inside ---------------------------------------------------------------------------------------------

    def _run(self) -> Steps:
        yield
        if self._thinking:
            yield from self._thought()
        else:
            start, _ = self.thoughts
            length = len(start)
            while True:
                space = self._space_length()
                word = self._text[space : space + length]
                if word == start:
                    self._take(space + length)
                    yield from self._thought()
                    break
                if self._closed or not start.startswith(word):
                    break
                yield
        yield from self.parse()
        yield from self.until((), self.say)
        while True:
            yield

    def _thought(self) -> Steps:
        yield from self.space()
        held = ""

        def emit(text: str) -> None:
            # White space at its end is layout: it is held back until more comes.
            nonlocal held
            text = held + text
            bare = text.rstrip()
            held = text[len(bare) :]
            self.think(bare)

        yield from self.until((self.thoughts[1],), emit)
        yield from self.space()

    def _advance(self) -> list[Piece]:
        next(self._steps)
        pieces, self._pieces = self._pieces, []
        return merged(pieces)

    def _take(self, count: int) -> str:
        taken, self._text = self._text[:count], self._text[count:]
        if self._taken is not None:
            self._taken.append(taken)
        return taken

    def _space_length(self) -> int:
        match = SPACE.match(self._text)
        return match.end() if match else 0


def _longer(marker: str, markers: Sequence[str]) -> bool:
    """Whether another marker begins with this one."""
    return any(other != marker and other.startswith(marker) for other in markers)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed(f"no JSON: {text[:40]!r}") from None


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
