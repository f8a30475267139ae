"""Publishing files that somebody else brought, hashed and verified: moved into the store, never copied."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from app.errors import UnsuitableFile
from app.store import disk
from app.store.layout import Layout
from app.store.manifest import ChatDefaults, KnownModel, Link, Manifest, Source, StoredFile
from app.store.publish import publish
from app.store.sources import SourceFile, arrange, inspect, merged
from runtime.gguf import GgufHeader


@dataclass(frozen=True)
class Arrival:
    """A file whose bytes are known to have the digest, and to be on the disk."""

    path: Path
    """Where it lies now: one to move lies on the store's disk, one to share is a blob."""
    filename: str
    """What it was called where it came from."""
    digest: str
    size: int
    way: Literal["move", "link", "share"]
    """Move it into the store, refer to it where it lies, or refer to the store's own blob."""
    template: bool = False
    """A chat template, no GGUF."""


class MovedFile:
    """A finished file on its way to its final name; goes back to where it was if the publication fails."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def seal(self) -> None:
        """Takes away the permission to write, and brings the file to the disk."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise disk.failure("open", self.path, error) from error
        try:
            disk.protect(fd, self.path)
            disk.sync(fd, self.path)
        finally:
            os.close(fd)

    def publish(self, target: Path) -> None:
        disk.rename(self.path, target)

    def withdraw(self, target: Path) -> None:
        if target.exists():
            disk.rename(target, self.path)


def adopt(
    layout: Layout,
    arrivals: Sequence[Arrival],
    name: str,
    *,
    source: Source,
    known: Mapping[str, KnownModel],
    replace: bool,
    wait_seconds: float,
) -> Manifest:
    """See :meth:`app.store.Store.adopt`; ``name`` has been checked."""
    layout.make()
    inspected: list[tuple[SourceFile, GgufHeader]] = []
    origins: dict[Path, Arrival] = {}
    for arrival in arrivals:
        if not arrival.template:
            found, header = inspect(arrival.path, arrival.filename)
            if found.size != arrival.size:
                raise UnsuitableFile(arrival.path, "was changed while it was imported; try again")
            inspected.append((found, header))
            origins[found.path] = arrival
    sources = arrange([arrival.path for arrival in arrivals], inspected)
    files = [_stored(origins[file.path], file) for file in sources]
    files += [_stored(arrival, None) for arrival in arrivals if arrival.template]
    staged: dict[str, MovedFile] = {}
    for arrival in arrivals:
        if arrival.way == "move":
            staged[arrival.digest] = MovedFile(arrival.path)
            staged[arrival.digest].seal()
    summary = merged(sources)
    recognized = known.get(files[0].digest) if len(files) == 1 else None
    manifest = Manifest(
        name=name,
        files=tuple(files),
        created=datetime.now(UTC).replace(microsecond=0),
        source=msgspec.structs.replace(source, license=source.license or summary.license),
        summary=summary,
        defaults=recognized.defaults if recognized else ChatDefaults(),
    )
    return publish(layout, manifest, staged, wait_seconds, replace=replace)


def _stored(arrival: Arrival, found: SourceFile | None) -> StoredFile:
    link = None
    if arrival.way == "link":
        link = Link(str(arrival.path), arrival.path.stat().st_mtime_ns)
    return StoredFile(
        digest=arrival.digest,
        size=arrival.size,
        filename=arrival.filename,
        role=found.role if found else "template",
        link=link,
    )
