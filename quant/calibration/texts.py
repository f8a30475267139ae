"""Texts to calibrate and to judge with: those that come with localq, and a person's own files.

The built-in texts lie in ``quant/texts``; ``index.json`` there says what each is, whose, and under which
licence. No sequence of 13 words is in both splits, and the domain ``unseen`` of the evaluation has no
counterpart in the calibration: other kinds of text, and languages of its own.
"""

from __future__ import annotations

import functools
import hashlib
import stat
from pathlib import Path
from typing import Final, Literal

import msgspec

from quant.calibration.text import CalibrationText
from quant.errors import InvalidText
from quant.names import plain_name
from runtime.units import format_bytes

Split = Literal["calibration", "probing", "evaluation"]

FOLDER: Final = Path(__file__).resolve().parent.parent / "texts"
MOST_BYTES: Final = 64 << 20
"""Of a person's file: calibration reads a few hundred thousand tokens at most."""
MOST_CONVERSATIONS: Final = 100_000
PLAIN: Final = (".txt", ".md")
CONVERSATIONS: Final = ".jsonl"
OWN_DOMAIN: Final = "given"
SHAPE: Final = 'write {"messages": [{"role": "user", "content": "..."}, ...]} or {"text": "..."}'


class TextSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One built-in file: a document, or conversations, one a line."""

    name: str
    split: Split
    domain: str
    language: str
    """BCP 47 of a natural language (``mul`` for several), or the name of a programming language."""
    file: str
    """Relative to ``quant/texts``."""
    bytes: int
    sha256: str
    title: str
    author: str
    licence: str
    """SPDX identifier, or ``public domain``; the licences' words are in ``quant/texts/NOTICES.md``."""
    copyright: str | None
    url: str
    origin: str
    cut: str


class _Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    texts: tuple[TextSource, ...]


class _Message(msgspec.Struct, frozen=True):
    role: Literal["system", "user", "assistant"]
    content: str


class _Line(msgspec.Struct, frozen=True):
    messages: tuple[_Message, ...] = ()
    text: str = ""
    name: str = ""


@functools.cache
def sources(folder: Path = FOLDER) -> tuple[TextSource, ...]:
    """What the built-in texts are. Raises InvalidText if the index is missing or damaged."""
    path = folder / "index.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Index).texts
    except (OSError, ValueError, msgspec.MsgspecError) as reason:
        raise InvalidText(
            f"{path}: the index of the built-in texts: {reason}; reinstall localq", path=path
        ) from reason


@functools.cache
def builtin(split: Split, folder: Path = FOLDER) -> tuple[CalibrationText, ...]:
    """The built-in texts of a split, in the order of the index; each conversation is a text of its own.

    Raises InvalidText where a file is missing or is not the one in the index.
    """
    chosen = [source for source in sources(folder) if source.split == split]
    if not chosen:
        raise ValueError(
            f"no built-in texts are called {split!r}: there are calibration, probing and evaluation"
        )
    return tuple(text for source in chosen for text in _read_builtin(source, folder))


def read_texts(path: Path, *, domain: str = OWN_DOMAIN) -> tuple[CalibrationText, ...]:
    """A person's own file: ``.txt`` or ``.md`` is one document, each line of a ``.jsonl`` is one of its own.

    A line holds ``{"messages": [{"role": "user", "content": "..."}, ...]}`` or ``{"text": "..."}``, and a
    ``name`` if it likes; other keys are ignored. Raises InvalidText for what is no regular file, has more
    than 64 MiB, is empty or no UTF-8 text, and for a line of another shape; the message names the offset or
    the line.
    """
    suffix = path.suffix.lower()
    if suffix not in (*PLAIN, CONVERSATIONS):
        kinds = ", ".join((*PLAIN, CONVERSATIONS))
        found = f"not from {suffix!r}" if suffix else "and this one has no ending"
        raise InvalidText(f"{path}: texts are read from {kinds} files, {found}; rename a copy", path=path)
    content = _decode(path, _read(path))
    if suffix == CONVERSATIONS:
        return _conversations(path, plain_name(path.name), domain, content)
    if not content.strip():
        raise InvalidText(f"{path}: the file holds no text", path=path)
    return (CalibrationText(plain_name(path.name), domain, content),)


def _read_builtin(source: TextSource, folder: Path) -> tuple[CalibrationText, ...]:
    path = folder / source.file
    content = _read(path)
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise InvalidText(
            f"{path}: the built-in text has sha256 {found[:16]}..., the index says {source.sha256[:16]}...; "
            "reinstall localq",
            path=path,
        )
    text = _decode(path, content)
    if path.suffix == CONVERSATIONS:
        return _conversations(path, source.name, source.domain, text)
    return (CalibrationText(source.name, source.domain, text),)


def _read(path: Path) -> bytes:
    """The bytes of a regular file; nothing else is opened, so that no pipe can hang the caller."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidText(f"{path}: not a regular file; give a text file", path=path)
        if facts.st_size > MOST_BYTES:
            raise InvalidText(
                f"{path}: {format_bytes(facts.st_size)} of text, at most {format_bytes(MOST_BYTES)} are read;"
                " give a part of it",
                path=path,
            )
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as reason:
        raise InvalidText(f"{path}: cannot be read: {reason.strerror or reason}", path=path) from reason
    if len(content) > MOST_BYTES:
        raise InvalidText(f"{path}: grew beyond {format_bytes(MOST_BYTES)} while it was read", path=path)
    return content


def _decode(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        offset = reason.start + 3 * content.startswith(b"\xef\xbb\xbf")
        raise InvalidText(
            f"{path}: no UTF-8 at byte {offset} (0x{content[offset]:02x}); save the file as UTF-8", path=path
        ) from reason
    if "\0" in text:
        raise InvalidText(f"{path}: a zero byte at byte {content.index(0)}: this is no text file", path=path)
    return text


def _conversations(path: Path, name: str, domain: str, content: str) -> tuple[CalibrationText, ...]:
    decoder = msgspec.json.Decoder(_Line)
    texts: list[CalibrationText] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        if len(texts) == MOST_CONVERSATIONS:
            raise InvalidText(f"{path}: more than {MOST_CONVERSATIONS} lines; give a part of it", path=path)
        try:
            entry = decoder.decode(line)
        except (ValueError, msgspec.MsgspecError, RecursionError) as reason:
            raise InvalidText(f"{path}: line {number}: {reason}; {SHAPE}", path=path) from reason
        if bool(entry.text.strip()) == bool(entry.messages):
            raise InvalidText(f"{path}: line {number}: needs either messages or a text; {SHAPE}", path=path)
        if any(not message.content.strip() for message in entry.messages):
            raise InvalidText(f"{path}: line {number}: a message has no content", path=path)
        messages = tuple({"role": message.role, "content": message.content} for message in entry.messages)
        text = "" if messages else entry.text
        texts.append(CalibrationText(f"{name}/{entry.name or number}", domain, text, messages))
    if not texts:
        raise InvalidText(f"{path}: the file holds no conversations", path=path)
    return tuple(texts)
