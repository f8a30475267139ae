"""The one step in which a model appears in the store, or does not."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from app.errors import NameTaken, StoreError
from app.store import disk
from app.store.collect import remove_unneeded
from app.store.layout import Layout
from app.store.lock import LOCK_SECONDS, exclusive
from app.store.manifest import Manifest, StoredFile, read_manifest, write_manifest
from app.store.names import manifest_filename
from app.store.temporary import Staged


class BlobVanished(Exception):
    """A blob that the import wanted to share was collected meanwhile: stage it, and publish again."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


def publish(
    layout: Layout,
    manifest: Manifest,
    staged: Mapping[str, Staged],
    wait_seconds: float = LOCK_SECONDS,
    *,
    replace: bool = False,
) -> Manifest:
    """Renames the sealed files of ``staged`` (by digest) to blobs, then writes ``manifest``.

    Returns what is stored now: the manifest, or the one that is there already with the same files. On any
    error the store is as it was before, apart from blobs that nothing refers to. With ``replace`` another
    model of that name gives way if it came from the same repository. Raises :class:`NameTaken`,
    :class:`BlobVanished`, :class:`StoreBusy`, :class:`StoreDamaged` (the name's manifest is unreadable) or an
    error of the disk.
    """
    with exclusive(layout.home, wait_seconds):
        existing = _holder(layout, manifest, replace)
        for file in manifest.files:
            if file.link is None and file.digest not in staged and not _is_there(layout, file):
                raise BlobVanished(file.digest)
        fresh: list[str] = []
        try:
            for digest, blob in staged.items():
                if not layout.blob(digest).exists():
                    fresh.append(digest)
                blob.publish(layout.blob(digest))  # over a blob that may have rotted
            if manifest.blobs:
                disk.sync_directory(layout.blobs)
            if existing is not None and existing.files == manifest.files:
                disk.sync_directory(layout.manifests)  # its publisher may have died before this
                return existing
            write_manifest(layout.manifests, manifest)
        except BaseException:
            _withdraw(layout, manifest.name, existing, {digest: staged[digest] for digest in fresh})
            raise
        if existing is not None and not existing.same_content(manifest):
            with suppress(StoreError):  # what stays is for gc: the model is published
                remove_unneeded(layout, existing.blobs - manifest.blobs)
        return manifest


def refuse_other_content(layout: Layout, name: str, sizes: list[int]) -> None:
    """Raises :class:`NameTaken` if ``name`` certainly belongs to another model, before anything is copied."""
    try:
        existing = read_manifest(layout.manifest(name))
    except FileNotFoundError:
        _refuse_twin(layout, name)
        return
    if sorted(file.size for file in existing.files) != sorted(sizes):
        raise NameTaken(name)


def _holder(layout: Layout, manifest: Manifest, replace: bool) -> Manifest | None:
    """The model of that name, if it has the same content or may be replaced; raises NameTaken if not."""
    try:
        existing = read_manifest(layout.manifest(manifest.name))
    except FileNotFoundError:
        _refuse_twin(layout, manifest.name)
        return None
    if not existing.same_content(manifest) and not (replace and _from_same_repository(existing, manifest)):
        raise NameTaken(manifest.name)
    return existing


def _from_same_repository(one: Manifest, other: Manifest) -> bool:
    return one.source.kind == other.source.kind == "hub" and one.source.origin == other.source.origin


def _refuse_twin(layout: Layout, name: str) -> None:
    """A manifest file whose name differs in case only would be the same file on some file systems."""
    filename = manifest_filename(name)
    try:
        for path in layout.manifests.iterdir():
            if path.name != filename and path.name.casefold() == filename:
                raise NameTaken(name, path.name)
    except FileNotFoundError:
        return


def _is_there(layout: Layout, file: StoredFile) -> bool:
    try:
        return layout.blob(file.digest).stat().st_size == file.size
    except FileNotFoundError:
        return False


def _withdraw(layout: Layout, name: str, existing: Manifest | None, fresh: Mapping[str, Staged]) -> None:
    """Takes back what a failed publication left. Blobs go only once no manifest needs them for certain."""
    # What cannot be taken back is valid too, and the first error is the one to tell.
    with suppress(StoreError, FileNotFoundError):
        if existing is None:
            disk.unlink(layout.manifest(name))
            disk.sync_directory(layout.manifests)
        elif read_manifest(layout.manifest(name)) != existing:
            write_manifest(layout.manifests, existing)
        for digest, blob in fresh.items():
            if existing is None or digest not in existing.blobs:
                blob.withdraw(layout.blob(digest))
