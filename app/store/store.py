"""The store, as the rest of localq sees it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Concatenate, ParamSpec, TypeVar

import msgspec

from app.errors import NoSuchModel, StoreDamaged
from app.paths import expand
from app.store import disk
from app.store.adopting import Arrival, adopt
from app.store.certificates import read_certificate, write_certificate
from app.store.check import Problem, check_quickly, verify
from app.store.collect import ModelUsage, Usage, collect, measure, remove
from app.store.importing import import_model
from app.store.layout import Layout, Progress
from app.store.lock import LOCK_SECONDS
from app.store.manifest import ChatDefaults, KnownModel, Manifest, Role, Source, read_manifest
from app.store.names import check_name
from app.store.publish import BlobVanished, publish
from app.store.temporary import scratch_folder

__all__ = ["ModelUsage", "Problem", "Store", "Usage"]

P = ParamSpec("P")
T = TypeVar("T")

HOME_VARIABLE = "LOCALQ_HOME"


def default_home() -> Path:
    """``LOCALQ_HOME``, or the platform's folder for a program's data. Touches no disk."""
    if home := os.environ.get(HOME_VARIABLE):
        return expand(home).absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("localq", appauthor=False))


def _silent(done: int, total: int) -> None:
    """Progress that nobody wants to see."""


def _typed(method: Callable[Concatenate[Store, P], T]) -> Callable[Concatenate[Store, P], T]:
    """Turns what the operating system refused, and nothing below expected, into a typed error."""

    @wraps(method)
    def typed(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except OSError as error:
            raise disk.failure("read", Path(error.filename or self.home), error) from error

    return typed


class Store:
    """Models on disk, under one folder. Any number of processes and threads may use the same one at once.

    Making a store touches no disk; folders appear with the first import. Every error is an
    :class:`app.errors.StoreError`, or :class:`runtime.errors.GgufError` for a file that is not a valid GGUF,
    and leaves the store as it was. ``lock_seconds`` bounds the waiting for other processes that change it.
    """

    def __init__(self, home: Path | str, *, lock_seconds: float = LOCK_SECONDS) -> None:
        self._layout = Layout(Path(home).absolute())
        self._lock_seconds = lock_seconds

    @classmethod
    def default(cls) -> Store:
        """The person's own store."""
        return cls(default_home())

    @property
    def home(self) -> Path:
        return self._layout.home

    @_typed
    def import_file(
        self,
        paths: Path | str | Iterable[Path | str],
        name: str,
        *,
        link: bool = False,
        source: Source | None = None,
        defaults: ChatDefaults = ChatDefaults(),  # noqa: B008 (frozen)
        known: Mapping[str, KnownModel] = MappingProxyType({}),
        progress: Progress = _silent,
    ) -> Manifest:
        """Stores the one model that ``paths`` hold: a GGUF, the parts of a split one, or a folder with it.

        Any one part brings its siblings; a projector (architecture ``clip``) comes along as mmproj. With
        ``link`` nothing is copied: the manifest refers to the files where they lie. ``source`` None means the
        file itself. ``known`` has what belongs to a model of one file, by its digest (``sha256-<hex>``), and
        counts where ``source`` or ``defaults`` are not given. ``progress`` gets bytes done and bytes to do.
        Importing the same content under the same name again succeeds, and repairs blobs that have rotted;
        other content raises :class:`NameTaken`. Raises :class:`InvalidName`, :class:`UnsuitableFile`,
        :class:`NotEnoughDisk`.
        """
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        return import_model(
            self._layout,
            [Path(path).absolute() for path in given],
            check_name(name),
            link=link,
            source=source,
            defaults=defaults,
            known=known,
            progress=progress,
            wait_seconds=self._lock_seconds,
        )

    @_typed
    def adopt(
        self,
        arrivals: Sequence[Arrival],
        name: str,
        *,
        source: Source,
        known: Mapping[str, KnownModel] = MappingProxyType({}),
        replace: bool = False,
    ) -> Manifest:
        """Stores the one model that verified files make: moved, linked, or blobs that are here already.

        Nothing is read but headers. A file to move lies in ``work``; if the publication fails it is there
        again. With ``replace`` an older model of that name from the same repository gives way. Raises
        :class:`NameTaken`, :class:`UnsuitableFile`, :class:`runtime.errors.GgufError`, and
        :class:`app.store.publish.BlobVanished` if a blob to share was removed meanwhile.
        """
        return adopt(
            self._layout,
            arrivals,
            check_name(name),
            source=source,
            known=known,
            replace=replace,
            wait_seconds=self._lock_seconds,
        )

    @_typed
    def blob(self, digest: str, size: int) -> Path | None:
        """Where the store has the bytes of a digest (``sha256-<hex>``), as far as their size tells."""
        path = self._layout.blob(digest)
        return path if disk.file_bytes(path) == size and path.exists() else None

    @_typed
    def list(self) -> Sequence[Manifest]:
        """The models whose manifests can be read, by name; :meth:`damaged` has the others."""
        return self._layout.read_all()[0]

    @_typed
    def damaged(self) -> Sequence[StoreDamaged]:
        """Manifests that cannot be read: their models are not in :meth:`list`."""
        return self._layout.read_all()[1]

    @_typed
    def get(self, name: str) -> Manifest:
        """The model called ``name``. Raises :class:`NoSuchModel` and :class:`StoreDamaged`."""
        try:
            return read_manifest(self._layout.manifest(check_name(name)))
        except FileNotFoundError:
            raise NoSuchModel(name, self._nearest(name)) from None

    @_typed
    def paths(self, manifest: Manifest) -> tuple[Path, ...]:
        """Where the model's GGUF lies, or its parts in their order; without its mmproj file.

        Looks at every file's size, and at the time of a linked one, but reads none. Raises
        :class:`StoreDamaged`.
        """
        return self._places(manifest, "model", "part")

    @_typed
    def mmproj(self, manifest: Manifest) -> Path | None:
        """Where the model's projector lies, if it has one. Raises :class:`StoreDamaged`."""
        return next(iter(self._places(manifest, "mmproj")), None)

    @_typed
    def template(self, manifest: Manifest) -> Path | None:
        """Where the chat template lies that came beside the model. Raises :class:`StoreDamaged`."""
        return next(iter(self._places(manifest, "template")), None)

    @_typed
    def certificate(self, manifest: Manifest) -> bytes | None:
        """The certificate that :meth:`keep_certificate` was given for the model's first file, if any."""
        return read_certificate(self._layout, manifest.files[0].digest)

    @_typed
    def keep_certificate(self, manifest: Manifest, raw: bytes) -> None:
        """Keeps ``raw`` beside the manifest, as long as a model has the bytes of this one's first file."""
        write_certificate(self._layout, manifest.files[0].digest, raw)

    @_typed
    def copy(self, src: str, dst: str) -> Manifest:
        """Gives the model ``src`` a second name; its blobs are shared.

        Raises :class:`NoSuchModel`, :class:`InvalidName`, :class:`NameTaken`.
        """
        while True:
            original = self.get(src)
            manifest = msgspec.structs.replace(original, name=check_name(dst))
            check_quickly(self._layout, original)
            try:
                return publish(self._layout, manifest, {}, self._lock_seconds)
            except BlobVanished:
                continue  # ``src`` was removed or damaged meanwhile, which the next look tells

    @_typed
    def remove(self, name: str) -> int:
        """Removes the model called ``name``, and the blobs that no other needs; returns the bytes freed.

        A linked file stays. A model with a damaged manifest can be removed too. Raises :class:`NoSuchModel`.
        """
        if not os.path.lexists(self._layout.manifest(check_name(name))):
            raise NoSuchModel(name, self._nearest(name))
        try:
            return remove(self._layout, name, self._lock_seconds)
        except FileNotFoundError:
            raise NoSuchModel(name, self._nearest(name)) from None

    @_typed
    def verify(self, names: Iterable[str] | None = None, progress: Progress = _silent) -> Sequence[Problem]:
        """Reads all files of the models ``names`` again and compares sizes and hashes; None means everything.

        Everything includes manifests, and what no model needs (those problems are ``harmless``). ``progress``
        gets bytes done and bytes to do. Raises :class:`NoSuchModel`.
        """
        wanted = None if names is None else [self.get(name).name for name in names]
        return verify(self._layout, wanted, progress)

    @_typed
    def gc(self) -> int:
        """Removes blobs that no model needs, and what dead processes left; returns the bytes freed.

        What an import under way has written stays. Raises :class:`StoreDamaged` if a manifest is unreadable:
        what it needs is not known then.
        """
        return collect(self._layout, self._lock_seconds)

    @_typed
    def usage(self) -> Usage:
        """Bytes of each model and of all; a shared blob counts once."""
        return measure(self._layout)

    @property
    def work(self) -> Path:
        """A folder on the store's disk for work that goes on after an interruption; ``gc`` empties it."""
        return self._layout.scratch

    def scratch(self) -> AbstractContextManager[Path]:
        """A folder on the store's disk for a ``with`` block's own files; it is removed afterwards."""
        return scratch_folder(self._layout.scratch)

    def _places(self, manifest: Manifest, *roles: Role) -> tuple[Path, ...]:
        check_quickly(self._layout, manifest)
        return tuple(self._layout.place(file) for file in manifest.files if file.role in roles)

    def _nearest(self, name: str) -> tuple[str, ...]:
        import difflib

        names = [manifest.name for manifest in self._layout.read_all()[0]]
        return tuple(difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5))
