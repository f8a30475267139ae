"""Where things lie in the store's folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from app.errors import StoreDamaged
from app.store import disk
from app.store.manifest import Manifest, StoredFile, manifest_paths, read_manifest
from app.store.names import manifest_filename

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the bytes done and the bytes to do; the second may grow."""

BLOB_PREFIX = "sha256-"


@dataclass(frozen=True)
class Layout:
    """The folders under ``home``. Making one touches no disk."""

    home: Path

    @property
    def blobs(self) -> Path:
        return self.home / "blobs"

    @property
    def manifests(self) -> Path:
        return self.home / "manifests"

    @property
    def certificates(self) -> Path:
        return self.home / "certificates"

    @property
    def scratch(self) -> Path:
        return self.home / "tmp"

    def blob(self, digest: str) -> Path:
        """Where the bytes of ``digest`` lie; the digest has been checked to be one."""
        return self.blobs / digest

    def place(self, file: StoredFile) -> Path:
        """Where the bytes of ``file`` lie: in the store, or where it is linked."""
        return self.blob(file.digest) if file.link is None else Path(file.link.path)

    def manifest(self, name: str) -> Path:
        """Where the manifest of a checked ``name`` lies."""
        return self.manifests / manifest_filename(name)

    def make(self) -> None:
        """Makes the folders, durably: also those that a process made which died before it synced them."""
        if not (self.blobs.is_dir() and self.manifests.is_dir()):
            disk.make_directory(self.home)
            if os.access(self.home.parent, os.W_OK):  # otherwise no process of ours made ``home``
                disk.sync_directory(self.home.parent)
            disk.make_directory(self.blobs)
            disk.make_directory(self.manifests)
        disk.sync_directory(self.home)

    def read_all(self) -> tuple[list[Manifest], list[StoreDamaged]]:
        """Every manifest that can be read, by name, and what is wrong with the others.

        One that is removed meanwhile is left out.
        """
        manifests: list[Manifest] = []
        damaged: list[StoreDamaged] = []
        for path in manifest_paths(self.manifests):
            try:
                manifests.append(read_manifest(path))
            except FileNotFoundError:
                continue
            except StoreDamaged as error:
                damaged.append(error)
        return sorted(manifests, key=lambda manifest: manifest.name), damaged

    def blob_sizes(self) -> Iterator[tuple[Path, int]]:
        """The blobs that exist, and their sizes."""
        try:
            paths = sorted(self.blobs.iterdir())
        except FileNotFoundError:
            return
        for path in paths:
            if path.name.startswith(BLOB_PREFIX):
                try:
                    size = path.stat().st_size
                except FileNotFoundError:
                    continue
                yield path, size
