"""Bringing the files of a model into the store: copied and hashed in one pass, or hashed where they lie."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from app.errors import NotEnoughDisk, UnsuitableFile
from app.store import disk
from app.store.hashing import hash_file, read_chunks
from app.store.layout import Layout, Progress
from app.store.manifest import ChatDefaults, KnownModel, Link, Manifest, Source, StoredFile
from app.store.publish import BlobVanished, publish, refuse_other_content
from app.store.sources import SourceFile, find_sources, merged, named, open_regular, role_of
from app.store.temporary import StagedFile
from runtime.errors import GgufError
from runtime.gguf import open_gguf, summarize

RESERVE_BYTES = 1 << 20
"""Room for the manifest and the folders' own blocks."""
_SAMPLE_BYTES = 1 << 16


def import_model(
    layout: Layout,
    paths: Iterable[Path],
    name: str,
    *,
    link: bool,
    source: Source | None,
    defaults: ChatDefaults,
    known: Mapping[str, KnownModel],
    progress: Progress,
    wait_seconds: float,
) -> Manifest:
    """See :meth:`app.store.Store.import_file`; ``name`` has been checked."""
    sources = find_sources(paths)
    refuse_other_content(layout, name, [file.size for file in sources])
    summary = merged(sources)
    with ExitStack() as stack:
        work = _Import(layout, sources, progress, stack)
        layout.make()
        files = [work.link(file) if link else work.copy(file) for file in sources]
        recognized = known.get(files[0].digest) if len(files) == 1 else None
        if recognized is not None:
            # A linked file is repaired from where it lies, so that is its origin.
            source = source or (None if link else recognized.source)
            defaults = recognized.defaults if defaults == ChatDefaults() else defaults
        origin = source or Source(
            kind="file",
            origin=_text(sources[0].path),
            license=recognized.source.license if recognized else summary.license,
            url=recognized.source.url if recognized else None,
        )
        manifest = Manifest(
            name=name,
            files=tuple(files),
            created=datetime.now(UTC).replace(microsecond=0),
            source=origin,
            summary=summary,
            defaults=defaults,
        )
        while True:
            try:
                return publish(layout, manifest, work.staged, wait_seconds)
            except BlobVanished as vanished:
                work.copy_again(sources[[file.digest for file in files].index(vanished.digest)])


class _Import:
    """One import under way: what has been staged for it, and how far it is."""

    def __init__(
        self, layout: Layout, sources: Iterable[SourceFile], progress: Progress, stack: ExitStack
    ) -> None:
        self.layout = layout
        self.staged: dict[str, StagedFile] = {}
        self._stack = stack
        self._progress = progress
        self._done = 0
        self._total = sum(source.size for source in sources)
        self._to_copy = self._total

    def link(self, source: SourceFile) -> StoredFile:
        """Hashes a file where it lies."""
        if source.path.is_relative_to(os.path.realpath(self.layout.home)):
            raise UnsuitableFile(source.path, "lies in the store itself; use `localq cp`")
        try:
            os.fsencode(source.path).decode("utf-8")
        except UnicodeDecodeError:
            raise UnsuitableFile(
                source.path, "has a path that is not UTF-8; rename it, or do not link"
            ) from None
        fd = open_regular(source.path)
        try:
            before = os.fstat(fd)
            digest, size = hash_file(fd, self._advance)
            _require_unchanged(source, before, os.fstat(fd), size)
        except OSError as error:
            raise UnsuitableFile(source.path, f"cannot be read: {error.strerror}") from error
        finally:
            os.close(fd)
        return StoredFile(
            digest=digest,
            size=size,
            filename=source.filename,
            role=source.role,
            link=Link(str(source.path), before.st_mtime_ns),
        )

    def copy(self, source: SourceFile) -> StoredFile:
        """Stages a copy of a file, unless the store has a sound blob with the same bytes."""
        fd = open_regular(source.path)
        try:
            before = os.fstat(fd)
            digest = self._stored_twin(fd, source)
            if digest is None or digest in self.staged:
                digest = self._stage(fd, source)
            _require_unchanged(source, before, os.fstat(fd), source.size)
        except OSError as error:
            raise UnsuitableFile(source.path, f"cannot be read: {error.strerror}") from error
        finally:
            os.close(fd)
        self._to_copy -= source.size
        return StoredFile(digest=digest, size=source.size, filename=source.filename, role=source.role)

    def copy_again(self, source: SourceFile) -> None:
        """Stages a copy of a file whose blob was there, but is no more."""
        self._total += source.size
        self._to_copy += source.size
        self.copy(source)

    def _stage(self, fd: int, source: SourceFile) -> str:
        staged = self._stack.enter_context(StagedFile(self.layout.blobs, self._to_copy))
        if disk.clone(fd, staged.fd):
            for chunk in read_chunks(staged.fd):
                staged.adopt(chunk)
                self._advance(len(chunk))
        else:
            self._require_space()
            for chunk in read_chunks(fd):
                staged.write(chunk)
                self._advance(len(chunk))
        _require_same_model(source, staged.path, staged.size)
        staged.seal()
        self.staged[staged.digest] = staged
        return staged.digest

    def _stored_twin(self, fd: int, source: SourceFile) -> str | None:
        """The digest of a blob with the bytes of ``source``, if there is one: both are read to their end."""
        sizes = self.layout.blob_sizes()
        if not any(size == source.size and self._alike(fd, path, size) for path, size in sizes):
            return None
        self._total += source.size
        digest, _ = hash_file(fd, self._advance)
        blob = self.layout.blob(digest)
        if not blob.exists():
            return None
        if _blob_digest(blob, self._advance) == digest:
            try:
                _require_same_model(source, blob, source.size)
                return digest
            except UnsuitableFile:
                if blob.exists():  # otherwise it was collected just now
                    raise
        self._total += source.size
        return None

    @staticmethod
    def _alike(fd: int, path: Path, size: int) -> bool:
        """Whether three samples are equal: spares the hash of a model that only has the same size."""
        try:
            stored = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            return all(
                os.pread(fd, _SAMPLE_BYTES, at) == os.pread(stored, _SAMPLE_BYTES, at)
                for at in (0, size // 2, max(0, size - _SAMPLE_BYTES))
            )
        except OSError:
            return False
        finally:
            os.close(stored)

    def _require_space(self) -> None:
        free = disk.free_bytes(self.layout.home)
        if self._to_copy + RESERVE_BYTES > free:
            raise NotEnoughDisk(self.layout.home, needed_bytes=self._to_copy + RESERVE_BYTES, free_bytes=free)

    def _advance(self, count: int) -> None:
        self._done += count
        self._progress(self._done, self._total)


def _blob_digest(path: Path, on_bytes: Callable[[int], None]) -> str | None:
    """The digest of the bytes that a blob really holds; None if they cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return hash_file(fd, on_bytes)[0]
    except OSError:
        return None
    finally:
        os.close(fd)


def _require_unchanged(source: SourceFile, before: os.stat_result, after: os.stat_result, size: int) -> None:
    same_file = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    if not same_file or source.size != before.st_size or size != source.size:
        raise _changed(source)


def _require_same_model(source: SourceFile, stored: Path, size: int) -> None:
    """The bytes that will be published are validated themselves: the person's file may change at any time."""
    if size != source.size:
        raise _changed(source)
    try:
        header = open_gguf(stored)
    except GgufError as error:
        raise _changed(source) from error
    if role_of(header) != source.role or named(summarize(header), stored, source.filename) != source.summary:
        raise _changed(source)


def _changed(source: SourceFile) -> UnsuitableFile:
    return UnsuitableFile(source.path, "was changed while it was imported; try again when it is complete")


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "replace").decode("utf-8")
