"""From a path to chats: which form each file has, and what could not be read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from app.chats.imports import chatgpt, lmstudio, ollama, openwebui, plain
from app.chats.imports.files import ZIP, FileText, files_of, members_of, read_file
from app.chats.saved import Archive, SavedChat
from app.errors import UnreadableExport
from app.paths import expand

SQLITE: Final = b"SQLite format 3\0"
Raw: TypeAlias = Mapping[str, msgspec.Raw]
Reader: TypeAlias = Callable[[bytes, FileText], SavedChat]
READERS: Final[tuple[tuple[frozenset[str], Reader], ...]] = (
    (frozenset({"mapping"}), chatgpt.read),
    (frozenset({"history"}), openwebui.read_chat),
    (frozenset({"chat"}), openwebui.read),
    (frozenset({"messages"}), lmstudio.read),
    (frozenset({"messages"}), plain.read),
)
"""Keys that an object of the form has, most special first; a reader that refuses one passes it on."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A chat, or a whole file, that could not be read."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """A chat, or what stood in its place."""

    chat: SavedChat | None = None
    unread: Unread | None = None


def read_export(path: Path) -> Iterator[Found]:
    """Everything in a file, or in a folder of files, one chat at a time.

    Raises UnreadableExport for what is not there, is no file, is too large, or has no chats in any form known
    here.
    """
    path = expand(path)
    folder = path.is_dir()
    any_found = False
    for file in files_of(path):
        try:
            for found in _read(file, path if folder else path.parent):
                any_found = True
                yield found
        except UnreadableExport as error:
            if not folder:
                raise
            yield Found(unread=Unread(str(error.path), error.reason))
    if folder and not any_found:
        raise UnreadableExport(path, "the folder has no chats in a form that is known here")


def _read(path: Path, base: Path) -> Iterator[Found]:
    with path.open("rb") as file:
        head = file.read(16)
    if head == SQLITE:
        yield from (Found(chat=chat) for chat in ollama.read_database(path))
    elif head.startswith(ZIP):
        try:
            for name, data in members_of(path):
                yield from _json(data, FileText(path / name, ""))
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise UnreadableExport(path, f"the zip file cannot be read: {error}") from error
    else:
        below = path.parent.relative_to(base).as_posix() if path.is_relative_to(base) else "."
        yield from _json(read_file(path), FileText(path, "" if below == "." else below))


def _json(data: bytes, file: FileText) -> Iterator[Found]:
    objects = _objects(data, file)
    recognised = False
    for number, raw in enumerate(objects, start=1):
        where = f"{file.path}: chat {number}" if len(objects) > 1 else str(file.path)
        try:
            keys = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            if "localq_chats" in keys:
                archive = msgspec.json.decode(raw, type=Archive)
                recognised = True
                yield from (Found(chat=chat) for chat in archive.chats)
                continue
            readers = [reader for needed, reader in READERS if needed <= keys.keys()]
            if not readers:
                continue
            recognised = True
            chat = _first(readers, bytes(raw), file)
            if chat.messages:
                yield Found(chat=chat)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
            recognised = True
            yield Found(unread=Unread(where, str(error)))
    if not recognised:
        raise UnreadableExport(file.path, "there are no chats in it in a form that is known here")


def _first(readers: list[Reader], raw: bytes, file: FileText) -> SavedChat:
    reason: Exception | None = None
    for reader in readers:
        try:
            return reader(raw, file)
        except msgspec.ValidationError as error:
            reason = error
    assert reason is not None
    raise reason


def _objects(data: bytes, file: FileText) -> list[msgspec.Raw]:
    """The chats of a document: its elements, itself, or its lines."""
    data = data.removeprefix(b"\xef\xbb\xbf").strip()
    if file.path.suffix.lower() == ".jsonl":
        return [msgspec.Raw(line) for line in data.splitlines() if line.strip()]
    try:
        if data.startswith(b"["):
            elements = msgspec.json.decode(data, type=list[msgspec.Raw])
            if elements and plain.is_message(elements[0]):  # one chat that is a bare list of messages
                return [msgspec.Raw(b'{"messages": ' + data + b"}")]
            return elements
        msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableExport(file.path, f"this is no JSON of chats: {error}") from error
    return [msgspec.Raw(data)]
