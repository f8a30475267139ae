"""The last step: safe text onto a stream, into a line of JSON, or into a rich text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TextIO

from app.terminal.characters import join_surrogates, marker
from app.terminal.sanitizer import sanitize

if TYPE_CHECKING:
    from rich.text import Text

_NOT_PRINTABLE_ASCII = re.compile("[^ -~]+")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def write(stream: TextIO, text: str) -> None:
    """Write ``text`` as it is; what the stream's encoding cannot hold becomes a backslash escape.

    So a terminal of ASCII or Latin-1 shows ``\\u241b`` for ``␛``, and no text is refused. Does not sanitise,
    as the caller's own colours must pass: foreign text goes through :func:`sanitize` or :class:`Sanitizer`
    first. Does not flush. Errors of the stream itself (BrokenPipeError, a full disk) are the caller's.
    """
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def json_line(document: Any) -> str:
    """``document`` as one line of JSON in printable ASCII, line break included.

    Takes what msgspec encodes: structs, dataclasses, dicts, lists, enums, dates. Characters beyond ASCII are
    written as ``\\uXXXX``, which any reader of JSON turns back, so the line is safe on a terminal of any
    encoding and between the lines of an event stream. (msgspec alone leaves DEL, C1 and bidi controls as they
    are.) Lone surrogates, which readers of JSON may refuse (RFC 7493, 2.1), become markers. NaN and infinity
    become null.
    """
    import msgspec

    try:
        encoded = msgspec.json.encode(document)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_without_surrogates(msgspec.to_builtins(document, str_keys=True)))
    return _NOT_PRINTABLE_ASCII.sub(_escape, encoded.decode()) + "\n"


def as_text(text: str, *, newlines: bool = True, style: str = "") -> Text:
    """``text`` sanitised, as a rich text in which nothing is read as markup."""
    from rich.text import Text

    return Text(sanitize(text, newlines=newlines), style=style)


def _escape(characters: re.Match[str]) -> str:
    units = characters.group().encode("utf-16-be").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub(lambda lone: marker(lone.group()), join_surrogates(value))
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value
