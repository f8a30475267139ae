"""Giving disk space back: removing a model, collecting what nothing refers to, and counting bytes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import msgspec

from app.errors import StoreDamaged
from app.store import disk
from app.store.certificates import remove_certificates
from app.store.layout import Layout
from app.store.lock import exclusive
from app.store.manifest import Manifest, read_manifest
from app.store.temporary import abandoned_work, dead_files, dead_folders


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one model."""

    name: str
    size_bytes: int
    """Of all its files."""
    shared_bytes: int
    """Of its blobs that other models need too."""
    linked_bytes: int
    """Of its files outside the store."""

    @property
    def freed_by_removing(self) -> int:
        return self.size_bytes - self.shared_bytes - self.linked_bytes


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the store takes of its disk."""

    models: tuple[ModelUsage, ...]
    stored_bytes: int
    """Of all blobs that models need, a shared one counted once."""
    linked_bytes: int
    """Of the files outside the store that models refer to, each counted once."""
    reclaimable_bytes: int
    """What ``gc`` would free."""
    free_bytes: int
    """Left on the disk."""


def remove(layout: Layout, name: str, wait_seconds: float) -> int:
    """See :meth:`app.store.Store.remove`; ``name`` has been checked.

    Writes nothing, so it works on a full disk. The manifest is gone for certain before a blob goes.
    """
    with exclusive(layout.home, wait_seconds):
        path = layout.manifest(name)
        try:
            blobs = read_manifest(path).blobs
        except StoreDamaged:
            blobs = frozenset()
        freed = disk.unlink(path)
        disk.sync_directory(layout.manifests)
        return freed + remove_unneeded(layout, blobs)


def remove_unneeded(layout: Layout, blobs: frozenset[str]) -> int:
    """Removes those of ``blobs`` that no model needs; returns the bytes freed. The caller holds the lock."""
    others, damaged = layout.read_all()
    if damaged:
        return 0  # what the damaged ones need is not known: keep all blobs
    needed = _needed(others)
    doomed = blobs - needed
    freed = sum(disk.unlink(layout.blob(digest)) for digest in sorted(doomed))
    remove_certificates(layout, needed)
    if doomed:
        disk.sync_directory(layout.blobs)
    return freed


def collect(layout: Layout, wait_seconds: float) -> int:
    """See :meth:`app.store.Store.gc`."""
    if not layout.home.is_dir():
        return 0
    with exclusive(layout.home, wait_seconds):
        freed = _collect_temporary(layout)
        manifests, damaged = layout.read_all()
        if damaged:
            raise StoreDamaged(
                damaged[0].path,
                f"{damaged[0].reason}; what it needs is not known, so no blob was removed: "
                "remove that model or that file, then try again",
                next_command=damaged[0].next_command or "localq doctor",
            )
        if layout.manifests.is_dir():
            # A removal that was killed may not have reached the disk: its blobs may go only when it has.
            disk.sync_directory(layout.manifests)
        needed = _needed(manifests)
        orphans = [path for path, _ in layout.blob_sizes() if path.name not in needed]
        freed += sum(disk.unlink(path) for path in orphans) + remove_certificates(layout, needed)
        if orphans:
            disk.sync_directory(layout.blobs)
        return freed


def measure(layout: Layout) -> Usage:
    """See :meth:`app.store.Store.usage`."""
    manifests, damaged = layout.read_all()
    sizes: dict[str, int] = {}
    users: dict[str, int] = {}
    links: dict[str, int] = {}
    for manifest in manifests:
        for file in manifest.files:
            if file.link is None:
                sizes[file.digest] = file.size
            else:
                links[file.link.path] = file.size
        for digest in manifest.blobs:
            users[digest] = users.get(digest, 0) + 1
    orphans = 0 if damaged else sum(size for path, size in layout.blob_sizes() if path.name not in sizes)
    return Usage(
        models=tuple(
            ModelUsage(
                name=manifest.name,
                size_bytes=manifest.size_bytes,
                shared_bytes=sum(sizes[digest] for digest in manifest.blobs if users[digest] > 1),
                linked_bytes=sum(file.size for file in manifest.files if file.link is not None),
            )
            for manifest in manifests
        ),
        stored_bytes=sum(sizes.values()),
        linked_bytes=sum(links.values()),
        reclaimable_bytes=orphans + _temporary_bytes(layout),
        free_bytes=disk.free_bytes(layout.home),
    )


def _needed(manifests: Iterable[Manifest]) -> frozenset[str]:
    return frozenset().union(*(manifest.blobs for manifest in manifests))


def _collect_temporary(layout: Layout) -> int:
    freed = 0
    for path in chain(dead_folders(layout.scratch), abandoned_work(layout.scratch)):
        import shutil

        freed += sum(map(disk.unlink, disk.files_below(path)))
        shutil.rmtree(path, ignore_errors=True)
    for folder in (layout.blobs, layout.manifests, layout.certificates, layout.scratch):
        freed += sum(disk.unlink(path) for path in dead_files(folder))
    return freed


def _temporary_bytes(layout: Layout) -> int:
    folders = (layout.blobs, layout.manifests, layout.certificates, layout.scratch)
    files = sum(disk.file_bytes(path) for folder in folders for path in dead_files(folder))
    folders_left = chain(dead_folders(layout.scratch), abandoned_work(layout.scratch))
    return files + sum(map(disk.bytes_below, folders_left))
