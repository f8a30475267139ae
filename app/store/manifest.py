"""What the store knows of a model: its blobs, where it comes from, and what its header says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from app.errors import DiskFailed, InvalidName, StoreDamaged
from app.store import disk
from app.store.names import manifest_filename, name_of, removal_command
from app.store.temporary import StagedFile
from runtime.gguf import ModelSummary

VERSION = 1
MAX_MANIFEST_BYTES = 4 << 20

Digest: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^sha256-[0-9a-f]{64}\Z")]
Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Role: TypeAlias = Literal["model", "part", "mmproj", "template"]
"""A template is a chat template beside the model (``chat_template.jinja``)."""


class Link(msgspec.Struct, frozen=True):
    """A file of the person's own, used where it lies."""

    path: str
    """Absolute."""
    mtime_ns: int
    """Of the file when it was hashed."""


class StoredFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file of a model: a blob, or with ``link`` a file outside the store."""

    digest: Digest
    size: Size
    filename: str
    """What it was called where it came from: for people, never a path."""
    role: Role
    link: Link | None = None

    def same_content(self, other: StoredFile) -> bool:
        """Whether both are the same bytes in the same role."""
        return (self.digest, self.size, self.role) == (other.digest, other.size, other.role)


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a model comes from."""

    kind: Literal["demo", "file", "hub", "quantized"]
    origin: str
    """The path, or the repository, in words; of a quantized model what it was made of."""
    license: str | None = None
    url: str | None = None
    package: str | None = None
    version: str | None = None
    """Of the package, or the commit of the repository."""


class ChatDefaults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What serves a model better than the general defaults; a person's own choice goes before."""

    system: str | None = None
    """System prompt; an empty one keeps out the one that the chat template brings."""
    temperature: float | None = None


class KnownModel(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to a file's bytes, wherever they come from."""

    source: Source
    defaults: ChatDefaults


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A stored model."""

    version: Annotated[int, msgspec.Meta(ge=1)] = VERSION
    name: str
    files: Annotated[tuple[StoredFile, ...], msgspec.Meta(min_length=1)]
    """The model, or its parts in their order; then its mmproj file and its chat template, if it has those."""
    created: datetime
    source: Source
    summary: ModelSummary
    """So that nothing has to open the GGUF to list or show it. Its ``size_bytes`` counts all files."""
    defaults: ChatDefaults = ChatDefaults()

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def blobs(self) -> frozenset[str]:
        """Digests of the files that lie in the store."""
        return frozenset(file.digest for file in self.files if file.link is None)

    def same_content(self, other: Manifest) -> bool:
        """Whether both are made of the same bytes, stored or linked."""
        return len(self.files) == len(other.files) and all(
            mine.same_content(theirs) for mine, theirs in zip(self.files, other.files, strict=True)
        )


class _Version(msgspec.Struct):
    version: int


_decoder = msgspec.json.Decoder(Manifest)
_version_decoder = msgspec.json.Decoder(_Version)


def read_manifest(path: Path) -> Manifest:
    """The manifest at ``path``. Raises :class:`StoreDamaged`, or FileNotFoundError if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            raw = os.read(fd, MAX_MANIFEST_BYTES + 1)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _damaged(path, f"the manifest cannot be read: {error.strerror}") from error
    if len(raw) > MAX_MANIFEST_BYTES:
        raise _damaged(path, f"the manifest is longer than {MAX_MANIFEST_BYTES} bytes")
    try:
        name = name_of(path.name)
        if (version := _version_decoder.decode(raw).version) > VERSION:
            raise StoreDamaged(
                path,
                f"the manifest has version {version}, this localq reads {VERSION}; update localq",
                next_command="localq --version",
            )
        manifest = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidName) as error:
        raise _damaged(path, f"this is not a manifest: {error}") from error
    if manifest.name != name:
        raise _damaged(path, f"the manifest is of {manifest.name!r}, so its file has a wrong name")
    return manifest


def _damaged(path: Path, reason: str) -> StoreDamaged:
    return StoreDamaged(path, reason, next_command=removal_command(path))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Publishes ``manifest`` in ``folder``, durably. The caller holds the store's lock."""
    raw = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
    with StagedFile(folder, len(raw)) as staged:
        staged.write(raw)
        staged.seal()
        staged.publish(folder / manifest_filename(manifest.name))
        disk.sync_directory(folder)


def manifest_paths(folder: Path) -> Iterator[Path]:
    """The files in ``folder`` that should be manifests, sorted; hidden ones are not."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise DiskFailed("read the folder", folder, error) from error
    yield from (folder / name for name in names if not name.startswith(".") and name.endswith(".json"))
