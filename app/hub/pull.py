"""Bringing files of a repository to this machine, each from the nearest place, and into the store.

The way of a file: the store has its bytes already; or another program has (:mod:`app.hub.elsewhere`), then it
is linked; or it is downloaded into a part folder. Any number of processes may want the same file: one fetches
it while the others wait for its lock, and then find it in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from app.errors import InvalidName, NameTaken, NoSuchChoice, NoSuchModel, NotEnoughDisk, StoreDamaged
from app.hub.api import Hub, RemoteFile, RemoteRepo
from app.hub.choose import Choice, choose
from app.hub.download import CONNECTIONS, Download, State
from app.hub.elsewhere import find_elsewhere
from app.hub.known import KNOWN
from app.hub.part import Part, open_parts
from app.hub.reference import HubReference
from app.store import Arrival, Manifest, Source, Store, disk
from app.store.hashing import hash_file
from app.store.names import check_name
from app.store.publish import BlobVanished
from runtime.errors import GgufError

RESERVE_BYTES: Final = 1 << 20
"""Room for the manifest and the folders' own blocks."""


@dataclass(frozen=True)
class PlannedEvent:
    """What will happen; comes once the room on the disk is known to be enough."""

    files: tuple[RemoteFile, ...]
    total_bytes: int
    to_fetch_bytes: int
    """Of the total, what is neither on this machine nor in the part of an earlier pull."""
    free_bytes: int


@dataclass(frozen=True)
class FileEvent:
    """How far one file is, and all of them together."""

    file: RemoteFile
    here_bytes: int
    checked_bytes: int
    """Of which the hash is known; behind ``here_bytes`` where an earlier pull left something."""
    done_bytes: int
    """Of all files."""
    total_bytes: int
    trouble: str | None
    """What the last attempt failed with, while it is tried again."""


@dataclass(frozen=True)
class FoundEvent:
    """A file need not be fetched."""

    file: RemoteFile
    path: str
    """Where it was found."""
    stored: bool
    """In the store itself; otherwise it is linked to where it lies."""


@dataclass(frozen=True)
class WaitingEvent:
    """Another process fetches these files; this one waits for it."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class ReadingEvent:
    """A file that may be the one that is wanted is read, to know its hash."""

    file: RemoteFile
    read_bytes: int


Event: TypeAlias = PlannedEvent | FileEvent | FoundEvent | WaitingEvent | ReadingEvent
Listener: TypeAlias = Callable[[Event], None]


class Fetch:
    """Files of one repository, whose locks this process holds. Made by :func:`fetching`."""

    def __init__(
        self,
        hub: Hub,
        store: Store,
        repo: RemoteRepo,
        files: Sequence[RemoteFile],
        parts: dict[str, Part],
        listener: Listener,
        connections: int,
        reuse: bool,
        together: bool,
    ) -> None:
        self._hub = hub
        self._store = store
        self._repo = repo
        self._parts = parts
        self._listener = listener
        self._connections = connections
        self._total = sum(file.size for file in files)
        self._done = 0
        self._found: dict[str, Arrival] = {}
        for file in files:
            arrival = self._look_for(file, reuse)
            if arrival is not None:
                self._found[file.key] = arrival
        missing = [file for file in files if file.key not in self._found]
        to_fetch = sum(file.size - parts[file.key].done_bytes for file in missing)
        free = disk.free_bytes(store.home)
        if together and missing and to_fetch + RESERVE_BYTES > free:
            raise NotEnoughDisk(store.home, needed_bytes=to_fetch + RESERVE_BYTES, free_bytes=free)
        listener(PlannedEvent(tuple(files), self._total, to_fetch, free))

    def bring(self, file: RemoteFile) -> Arrival:
        """The file on this machine, its bytes verified. Of one that was downloaded, ``path`` is in its part.

        Raises a :class:`app.errors.HubError` or an error of the disk; what came is kept.
        """
        arrival = self._found.get(file.key)
        if arrival is None:
            part = self._parts[file.key]
            download = Download(self._hub, self._repo.repo, self._repo.commit, file, part)
            sha256 = download.run(lambda state: self._tell(file, state), self._connections)
            arrival = Arrival(part.data, file.path, f"sha256-{sha256}", file.size, "move", not file.is_gguf)
            self._found[file.key] = arrival
        self._done += file.size
        return arrival

    def pass_over(self, file: RemoteFile) -> None:
        """Counts a file as done that nobody needs any more."""
        self._done += file.size

    def drop(self, file: RemoteFile) -> None:
        """Removes what was downloaded of a file, which is needed no more."""
        self._parts[file.key].remove()

    def _tell(self, file: RemoteFile, state: State) -> None:
        trouble = str(state.trouble).partition(";")[0] if state.trouble else None
        done = self._done + state.here
        self._listener(FileEvent(file, state.here, state.hashed, done, self._total, trouble))

    def _look_for(self, file: RemoteFile, reuse: bool) -> Arrival | None:
        """The file where it need not be fetched: in the store, or in another program's folder."""
        if file.sha256 is None:
            return None
        read = 0

        def on_bytes(count: int) -> None:
            nonlocal read
            read += count
            self._listener(ReadingEvent(file, read))

        digest = f"sha256-{file.sha256}"
        blob = self._store.blob(digest, file.size)
        if blob is not None:
            with blob.open("rb") as opened:
                sound = hash_file(opened.fileno(), on_bytes)[0] == digest
            if sound:
                self._listener(FoundEvent(file, str(blob), stored=True))
                return Arrival(blob, file.path, digest, file.size, "share", not file.is_gguf)
        if not reuse or self._parts[file.key].done_bytes:
            return None
        read = 0
        path = find_elsewhere(file.name, file.size, file.sha256, on_bytes)
        if path is None:
            return None
        self._listener(FoundEvent(file, str(path), stored=False))
        return Arrival(path, file.path, digest, file.size, "link", not file.is_gguf)


@contextmanager
def fetching(
    hub: Hub,
    store: Store,
    repo: RemoteRepo,
    files: Sequence[RemoteFile],
    listener: Listener,
    *,
    connections: int = CONNECTIONS,
    reuse: bool = True,
    together: bool = True,
) -> Iterator[Fetch]:
    """Locks ``files`` for this process, looks for them on this machine, and checks the room on the disk.

    With ``reuse`` a file that another program has is linked. ``together`` means that all files will be there
    at once; else the caller looks after the room. Raises :class:`NotEnoughDisk`.
    """
    total = sum(file.size for file in files)

    def on_wait(here: dict[str, int]) -> None:
        listener(WaitingEvent(min(total, sum(here.values())), total))

    with open_parts(store.work, {file.key: file.size for file in files}, on_wait) as parts:
        yield Fetch(hub, store, repo, files, parts, listener, connections, reuse, together)


def pull_model(
    hub: Hub,
    store: Store,
    choice: Choice,
    name: str,
    listener: Listener,
    *,
    connections: int = CONNECTIONS,
    reuse: bool = True,
) -> Manifest:
    """The model of ``choice`` in the store under ``name``, downloaded as far as it is not on this machine.

    The same model again costs no bytes; another commit of its repository takes its place. Raises
    :class:`NameTaken`, :class:`NotEnoughDisk`, a :class:`app.errors.HubError` or an error of the store.
    """
    check_name(name)
    stored = stored_model(store, choice, name)
    if stored is not None:
        return stored
    while True:
        with fetching(
            hub, store, choice.repo, choice.files, listener, connections=connections, reuse=reuse
        ) as fetch:
            arrivals = [fetch.bring(file) for file in choice.files]
            try:
                manifest = store.adopt(
                    arrivals, name, source=source_of(hub, choice.repo), known=KNOWN, replace=True
                )
            except BlobVanished:
                continue  # it is fetched after all
            except GgufError as error:
                raise _not_a_model(fetch, choice, error) from error
            for file in choice.files:
                fetch.drop(file)
            return manifest


def source_of(hub: Hub, repo: RemoteRepo) -> Source:
    """Where a model of this repository comes from, for its manifest."""
    return Source(
        kind="hub",
        origin=repo.repo,
        license=repo.license,
        url=f"{hub.base}/{repo.repo}",
        version=repo.commit,
    )


def stored_model(store: Store, choice: Choice, name: str) -> Manifest | None:
    """The model, if the store has it under ``name`` of this very commit, and sound as far as sizes tell.

    Raises :class:`NameTaken` where the name is another repository's, or no repository's.
    """
    try:
        manifest = store.get(name)
    except NoSuchModel:
        return None
    if manifest.source.kind != "hub" or manifest.source.origin != choice.repo.repo:
        raise NameTaken(name)
    same = manifest.source.version == choice.repo.commit and [
        (file.filename, file.size) for file in manifest.files
    ] == [(file.path, file.size) for file in choice.files]
    if not same:
        return None
    try:
        store.paths(manifest)
    except StoreDamaged:
        return None
    return manifest


def default_name(reference: HubReference, choice: Choice) -> str:
    """What a model is called in the store where the person gives no name: ``org/repo:q4_k_m``."""
    label = choice.model.label
    if label.lower().endswith(".gguf"):
        label = label.rpartition("/")[2][: -len(".gguf")]
    wanted = f"{choice.repo.repo}:{label}".lower()
    try:
        return check_name(wanted)
    except InvalidName as error:
        if error.suggestion is None:
            raise
        return error.suggestion


def find(hub: Hub, reference: HubReference) -> Choice:
    """The files that a reference means, as the Hub has them now."""
    return choose(reference, hub.repo(reference))


def _not_a_model(fetch: Fetch, choice: Choice, error: GgufError) -> NoSuchChoice:
    """What came is what the Hub announced, but nothing that may be opened: it is not kept."""
    for file in choice.files:
        fetch.drop(file)
    return NoSuchChoice(
        choice.repo.repo,
        f"{choice.model.files[0].path} {error.reason}",
        next_command="localq search WORDS --gguf",
    )
